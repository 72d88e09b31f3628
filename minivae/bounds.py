"""Every bound: K log-weights of one image -> the bound, and its first two derivatives.

A bound returns three float64 arrays:

    value (B,)     the bound, in nats
    c     (B, K)   d value / d log_w[k]; every row sums to 1
    dc    (B, K)   d c[k] / d log_w[k], the Hessian's diagonal

A row whose value is -inf has c = dc = 0: it cannot be improved by any small step. To
add a bound, write the function and name it in `BOUNDS`; the gradient checks, the
unbiasedness tests and the command line pick it up there. Options are keywords.
"""

import numpy as np

from .kernels import softmax


def elbo(log_w, *, kernels="numpy"):
    """The evidence lower bound, sampled: the mean of K log-weights.

    Kingma & Welling 2013 (eq. 3.4).

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
    c = np.full_like(log_w, 1 / log_w.shape[1])  # eq. 10.3
    return value, *zero_where_hopeless(value, c, np.zeros_like(c))


def iwae(log_w, *, kernels="numpy"):
    """The importance weighted bound: log of the mean of K weights.

    Burda et al. 2016, eq. 8 (eq. 9.1). Parameters, returns and errors as for `elbo`,
    with which it agrees to the last bit where K = 1.
    """
    log_w = check_log_w(log_w)
    lse, w_norm = softmax.VERSIONS[kernels].forward(log_w)
    value = lse - np.log(log_w.shape[1])  # eq. 9.1
    return value, w_norm, w_norm * (1 - w_norm)  # eqs. 10.2 and 10.4


def miwae(log_w, *, m, kernels="numpy"):
    """The mean of the IWAE bounds of ``m`` equal groups of samples.

    Rainforth et al. 2018 (eq. 13.1). m = 1 is `iwae`, and m = K is `elbo`.

    Parameters
    ----------
    log_w, kernels
        As for `elbo`.
    m : int
        How many groups; it divides K.

    Raises
    ------
    ValueError
        If ``m`` does not divide K.
    """
    log_w = check_log_w(log_w)
    B, K = log_w.shape
    if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or m < 1 or K % m:
        raise ValueError(f"m must be a whole number that divides K = {K}; got {m!r}")
    group_value, u, du = iwae(log_w.reshape(B * m, K // m), kernels=kernels)
    value = group_value.reshape(B, m).mean(axis=1)  # eq. 13.1
    c, dc = u.reshape(B, K) / m, du.reshape(B, K) / m  # eq. 13.2
    return value, *zero_where_hopeless(value, c, dc)


def ciwae(log_w, *, beta, kernels="numpy"):
    """beta times the ELBO and 1 - beta times the IWAE bound.

    Rainforth et al. 2018 (eq. 13.3).

    Parameters
    ----------
    log_w, kernels
        As for `elbo`.
    beta : float
        In [0, 1].

    Raises
    ------
    ValueError
        If ``beta`` is not in [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1]; got {beta!r}")
    parts = [(beta, elbo), (1 - beta, iwae)]
    # a weight of 0 would turn a value of -inf into NaN
    parts = [(a, bound(log_w, kernels=kernels)) for a, bound in parts if a > 0]
    value, c, dc = (sum(a * part[i] for a, part in parts) for i in range(3))  # eq. 13.3
    return value, *zero_where_hopeless(value, c, dc)


def vr(log_w, *, alpha, kernels="numpy"):
    """The variational Renyi bound of order alpha.

    Li & Turner 2016, eq. 14 (eq. 19.1). alpha = 0 is `iwae`, alpha = 1 is `elbo`; a
    bound from below for alpha >= 0, and its K-sample estimate for every alpha.

    Parameters
    ----------
    log_w, kernels
        As for `elbo`.
    alpha : float

    Raises
    ------
    ValueError
        If ``alpha`` is not finite.
    """
    if not np.isfinite(alpha):
        raise ValueError(f"alpha must be finite; got {alpha!r}")
    if alpha == 1:
        return elbo(log_w, kernels=kernels)
    log_w, s = check_log_w(log_w), 1 - alpha
    _, v = softmax.VERSIONS[kernels].forward(s * log_w)
    pivot = log_w.max(axis=1) if s > 0 else log_w.min(axis=1)
    hopeless = pivot == -np.inf
    # any numbers in the hopeless rows: they are set below
    pivot, log_w = np.where(hopeless, 0, pivot), np.where(hopeless[:, None], 0, log_w)
    # log1p and expm1: for a small s the mean is nearly 1, and its logarithm nearly s
    grown = np.expm1(s * (log_w - pivot[:, None])).mean(axis=1)
    value = np.where(hopeless, -np.inf, pivot + np.log1p(grown) / s)  # eq. 19.1
    c, dc = v, s * v * (1 - v)  # eq. 19.2
    return value, *zero_where_hopeless(value, c, dc)


def jackknife(log_w, *, kernels="numpy"):
    """The jackknife bound of order 1: the IWAE bound less its bias of order 1/K.

    Nowozin 2018 (eq. 19.3). Not a lower bound, and c can be negative. Parameters,
    returns and errors as for `elbo`, and K must be at least 2.
    """
    log_w = check_log_w(log_w)
    K = log_w.shape[1]
    if K < 2:
        raise ValueError(f"jackknife needs K >= 2; got K = {K}")
    value, w_norm, dw_norm = iwae(log_w, kernels=kernels)
    rest = leave_one_out(log_w)  # log of the sum of the others' weights
    a = (K - 1) / K
    hopeless = value == -np.inf
    rest = np.where(hopeless[:, None], 0, rest)  # any number: these rows are set below
    others = (rest - np.log(K - 1)).mean(axis=1)
    value = np.where(hopeless, -np.inf, K * value - (K - 1) * others)  # eq. 19.3
    # r_ik = w_k / (sum of all but w_i); the sums over i != k are leave-one-out too
    r = np.exp(log_w + leave_one_out(-rest))  # eq. 19.4
    r2 = np.exp(2 * log_w + leave_one_out(-2 * rest))
    c, dc = K * w_norm - a * r, K * dw_norm - a * (r - r2)  # eq. 19.5
    return value, *zero_where_hopeless(value, c, dc)


BOUNDS = {
    "elbo": elbo,
    "iwae": iwae,
    "miwae": miwae,
    "ciwae": ciwae,
    "vr": vr,
    "jackknife": jackknife,
}


def leave_one_out(a):
    """log of the sum of exp(a) over all columns but one, for each column; (B, K).

    From running sums of what stands before and after: nothing is subtracted, so nothing
    is lost where one term outweighs all others.
    """
    none = np.full_like(a[:, :1], -np.inf)
    before = running_logsumexp(np.concatenate([none, a[:, :-1]], axis=1))
    after = running_logsumexp(np.concatenate([none, a[:, :0:-1]], axis=1))[:, ::-1]
    return np.logaddexp(before, after)


def running_logsumexp(a):
    """log of the sum of exp(a) up to each column, (B, K), in log2 K rounds: after each,
    a column holds the sum of twice as many.
    """
    shift = 1
    while shift < a.shape[1]:
        added = np.logaddexp(a[:, shift:], a[:, :-shift])
        a, shift = np.concatenate([a[:, :shift], added], axis=1), 2 * shift
    return a


def zero_where_hopeless(value, c, dc):
    """c and dc, zero in the rows whose value is -inf."""
    hopeless = (value == -np.inf)[:, None]
    return np.where(hopeless, 0, c), np.where(hopeless, 0, dc)


def check_log_w(log_w):
    """``log_w`` as float64 of shape (B, K), or a ValueError that says what it was."""
    if not hasattr(log_w, "astype"):  # which arrays of the device have, too
        log_w = np.asarray(log_w)
    log_w = log_w.astype(np.float64, copy=False)
    if log_w.ndim != 2 or log_w.shape[1] == 0:
        raise ValueError(f"log_w must be (B, K) with K >= 1; got shape {log_w.shape}")
    return log_w
