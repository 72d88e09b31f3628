"""Every bound: K log-weights of one image -> the bound, and its first two derivatives.

A bound returns three float64 arrays:

    value (B,)     the bound, in nats
    c     (B, K)   d value / d log_w[k]; every row sums to 1
    dc    (B, K)   d c[k] / d log_w[k], the Hessian's diagonal

A row whose value is -inf has c = dc = 0: it cannot be improved by any small step. To
add a bound, write the function and name it in `BOUNDS`; the gradient checks and the
command line pick it up there.
"""

import numpy as np

from .kernels import softmax


def elbo(log_w, kernels="numpy"):
    """The evidence lower bound, sampled: the mean of K log-weights (Kingma & Welling
    2013; eq. 3.4).

    Parameters
    ----------
    log_w : ndarray of shape (B, K)
        Log-weights, in nats.
    kernels : str
        The version of the kernels to use.

    Returns
    -------
    value, c, dc : ndarray of shape (B,), (B, K), (B, K), float64

    Raises
    ------
    ValueError
        If ``log_w`` is not (B, K) with K >= 1.
    """
    log_w = check_log_w(log_w)
    value = log_w.mean(axis=1)  # eq. 3.4
    c = np.full(log_w.shape, 1 / log_w.shape[1])  # eq. 10.3
    c[value == -np.inf] = 0
    return value, c, np.zeros_like(c)


def iwae(log_w, kernels="numpy"):
    """The importance weighted bound: log of the mean of K weights (Burda et al. 2016,
    eq. 8; eq. 9.1).

    Parameters, returns and errors as for `elbo`; with K = 1 the two agree to the last
    bit.
    """
    log_w = check_log_w(log_w)
    lse, w_norm = softmax.VERSIONS[kernels].forward(log_w)
    value = lse - np.log(log_w.shape[1])  # eq. 9.1
    return value, w_norm, w_norm * (1 - w_norm)  # eqs. 10.2 and 10.4


BOUNDS = {"elbo": elbo, "iwae": iwae}


def check_log_w(log_w):
    """``log_w`` as a float64 array of shape (B, K), or a ValueError that says what it
    was instead.
    """
    log_w = np.asarray(log_w, np.float64)
    if log_w.ndim != 2 or log_w.shape[1] == 0:
        raise ValueError(f"log_w must be (B, K) with K >= 1; got shape {log_w.shape}")
    return log_w
