"""Layers of one matrix each: the linear map and tanh, forward and backward side by
side.

A forward returns its output and a cache; the backward takes the gradient of the output
and that cache. Nothing else is remembered anywhere. Rows of a batch are independent, so
the gradient of a parameter is a sum over rows.
"""

import numpy as np

from .kernels import product as product_kernel
from .kernels import tanh as tanh_kernel


def glorot_uniform(n_in, n_out, rng, dtype):
    """Weights whose products keep their variance on the way down and up (Glorot &
    Bengio 2010; eq. 6.7).

    Returns
    -------
    W : ndarray of shape (n_in, n_out)
        Uniform on +-sqrt(6 / (n_in + n_out)).
    """
    limit = np.sqrt(6 / (n_in + n_out))  # eq. 6.7
    return rng.uniform(-limit, limit, (n_in, n_out)).astype(dtype)


def linear_forward(x, W, b, kernels):
    """y = x W + b, a row at a time.

    Parameters
    ----------
    x : ndarray of shape (R, I)
    W : ndarray of shape (I, O)
    b : ndarray of shape (O,), or None
        None leaves it out: a kernel that reads y next may add it there.
    kernels : str
        The version of the kernels to use.

    Returns
    -------
    y : ndarray of shape (R, O)
    cache : tuple
        What the backward needs.
    """
    y = product_kernel.VERSIONS[kernels].product(x, W)  # (R, O)
    if b is not None:
        y += b  # eq. 6.1
    return y, (x, W)


def linear_backward(dy, cache, kernels):
    """The gradient that a linear map hands down to its input.

    Parameters
    ----------
    dy : ndarray of shape (R, O)

    Returns
    -------
    dx : ndarray of shape (R, I)
    """
    _, W = cache
    return product_kernel.VERSIONS[kernels].product(dy, W.T)  # (R, I)  eq. 6.2


def linear_backward_params(dy, cache, grads, name, kernels, coef=None):
    """Add the gradient of a linear map's parameters to ``grads``.

    Parameters
    ----------
    dy : ndarray of shape (R, O)
        Each row's gradient with seed 1.
    grads : Params
        Holds ``name.W`` (I, O) and ``name.b`` (O,).
    coef : ndarray of shape (R,), optional
        How often each row counts (an estimator's theta). Left out, once.
    """
    x, _ = cache
    if coef is None:
        coef = np.ones_like(dy, shape=len(dy))
    else:
        x = coef[:, None] * x  # counts the row's outer product with dy
    product = product_kernel.VERSIONS[kernels].product
    grads.add_product(f"{name}.W", product, x.T, dy)  # eq. 6.3
    grads.add_product(f"{name}.b", product, coef, dy)  # eq. 6.4


def tanh_forward(a, b, kernels):
    """h = tanh(a + b), element by element; a may be overwritten.

    Parameters
    ----------
    a : ndarray of shape (R, H)
        What a linear map left without its bias.
    b : ndarray of shape (H,)
        The bias. Its gradient is `linear_backward_params`'s.

    Returns
    -------
    h : ndarray of shape (R, H)
    cache : tuple
        h itself: the backward needs nothing else.
    """
    h = tanh_kernel.VERSIONS[kernels].forward(a, b)  # eq. 6.5
    return h, (h,)


def tanh_backward(dh, cache, kernels):
    """da, given dh, which may be overwritten, and the cache of `tanh_forward`."""
    (h,) = cache
    return tanh_kernel.VERSIONS[kernels].backward(dh, h)  # eq. 6.6
