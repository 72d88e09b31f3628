"""The decoder's head: a linear layer and the Bernoulli log-likelihood of its logits, as
one layer.

They are one layer so that the logits, the widest array of the whole walk, live only
between this forward and this backward, a chunk at a time.
"""

import numpy as np

from .kernels import bernoulli as bernoulli_kernel
from .layers import linear_backward, linear_backward_params, linear_forward


def bernoulli_forward(h, params, name, x, kernels):
    """log p(x|z) of each image under each of its K samples.

    Parameters
    ----------
    h : ndarray of shape (B * K, H)
        The decoder's last hidden layer; row r is sample r % K of image r // K.
    params : dict
        Holds ``name.W`` (H, D) and ``name.b`` (D,).
    x : ndarray of shape (B, D)
        Zeros and ones.

    Returns
    -------
    log_px : ndarray of shape (B, K) float64
        In nats.
    cache : tuple
    """
    W, b = params[f"{name}.W"], params[f"{name}.b"]
    a, _ = linear_forward(h, W, None, kernels)
    a = a.reshape(len(x), -1, x.shape[1])  # (B, K, D)
    log_px = bernoulli_kernel.VERSIONS[kernels].forward(a, b, x)  # (B, K)  eq. 8.4
    return log_px, (h, W, a, b, x)


def bernoulli_backward(cache, grads, name, coef, kernels):
    """dh with seed 1 per row, (B * K, H). It uses the cache up.

    Adds the head's gradients to ``grads``, row r counted ``coef[r]`` times.
    """
    h, W, a, b, x = cache
    dlogits = bernoulli_kernel.VERSIONS[kernels].backward(a, b, x)  # eq. 8.6
    dlogits = dlogits.reshape(len(h), W.shape[1])  # (B * K, D)
    linear_backward_params(dlogits, (h, W), grads, name, kernels, coef)
    return linear_backward(dlogits, (h, W), kernels)


def bernoulli_cache_rows(cache, rows):
    """The cache of some rows only, each of them the one sample of its own image."""
    h, W, a, b, x = cache
    K = a.shape[1]
    a = a.reshape(len(h), 1, -1)
    return h[rows], W, a[rows], b, x[rows // K]


def bernoulli_mean(h, params, name, kernels):
    """The probabilities of a one, (R, D): for pictures, never for a likelihood."""
    W, b = params[f"{name}.W"], params[f"{name}.b"]
    logits, _ = linear_forward(h, W, b, kernels)
    return 0.5 * (1 + np.tanh(0.5 * logits))  # a sigmoid that cannot overflow
