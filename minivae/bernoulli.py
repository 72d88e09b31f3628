"""The decoder's head: a linear layer and the Bernoulli log-likelihood of its logits, as
one layer.

They are one layer so that the logits, the widest array of all, live only between this
forward and this backward, a chunk at a time.
"""

import numpy as np

from .layers import linear_backward, linear_forward


def bernoulli_forward(model, name, h, x):
    """log p(x|z) of each image under each of its K samples.

    Parameters
    ----------
    h : ndarray of shape (B * K, H)
        The decoder's last hidden layer; row r is sample r % K of image r // K.
    x : ndarray of shape (B, D)
        Zeros and ones.

    Returns
    -------
    log_px : ndarray of shape (B, K) float64
        In nats.
    a : ndarray of shape (B * K, D)
        The logits without their bias, for the backward.
    """
    W, b = model.params[f"{name}.W"], model.params[f"{name}.b"]
    a = model.ops.matmul(h, W)  # (B * K, D)
    log_px = model.ops.bernoulli(a.reshape(len(x), -1, len(b)), b, x)  # eq. 8.4
    return log_px, a


def bernoulli_backward(model, name, a, h, x, **how):
    """dh with seed 1 per row, (B * K, H); ``a`` may be overwritten.

    The keywords ``grads`` and ``coef`` are those of `linear_backward`.
    """
    b = model.params[f"{name}.b"]
    K = len(a) // max(1, len(x))  # there may be no rows, and no images
    logits = a.reshape(len(x), K, len(b))  # (B, K, D), but for the bias
    dlogits = model.ops.bernoulli_backward(logits, b, x)  # eq. 8.6
    return linear_backward(model, name, dlogits.reshape(a.shape), h, **how)


def bernoulli_mean(model, name, h):
    """The probabilities of a one, (R, D): for pictures, never for a likelihood."""
    logits = linear_forward(model, name, h)
    return 0.5 * (1 + np.tanh(0.5 * logits))  # a sigmoid that cannot overflow
