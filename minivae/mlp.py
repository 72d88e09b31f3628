"""A multilayer perceptron: linear and tanh, one pair per hidden layer. The backward
mirrors the forward.

Parameters live in one dictionary, under names such as ``q1.hidden1.W``: ``q1`` is the
network's name.
"""

from itertools import pairwise

import numpy as np

from .layers import (
    glorot_uniform,
    linear_backward,
    linear_backward_params,
    linear_forward,
    tanh_backward,
    tanh_forward,
)


def linear_init(params, name, n_in, n_out, rng, dtype):
    """Add a linear layer's ``name.W`` (Glorot uniform) and ``name.b`` (zeros) to
    ``params``.
    """
    params[f"{name}.W"] = glorot_uniform(n_in, n_out, rng, dtype)
    params[f"{name}.b"] = np.zeros(n_out, dtype)


def mlp_init(params, name, n_in, hidden, rng, dtype):
    """Add the hidden layers ``name.hidden1``, ``name.hidden2``, ... of widths
    ``hidden`` to ``params``.
    """
    for i, (n, n_out) in enumerate(pairwise((n_in, *hidden)), start=1):
        linear_init(params, f"{name}.hidden{i}", n, n_out, rng, dtype)


def mlp_forward(x, params, name, n_hidden, kernels):
    """x through ``n_hidden`` pairs of linear and tanh.

    Parameters
    ----------
    x : ndarray of shape (R, I)
    params : dict
        Name -> array.
    name : str
        The network's name in ``params``.

    Returns
    -------
    h : ndarray of shape (R, H)
    cache : list
        One (linear cache, tanh cache) per hidden layer.
    """
    h, cache = x, []
    for i in range(1, n_hidden + 1):
        layer = f"{name}.hidden{i}"
        W, b = params[f"{layer}.W"], params[f"{layer}.b"]
        a, linear_cache = linear_forward(h, W, None, kernels)
        h, tanh_cache = tanh_forward(a, b, kernels)  # adds the bias
        cache.append((linear_cache, tanh_cache))
    return h, cache


def mlp_backward(dh, cache, grads, name, kernels, coef=None, down_to_x=True):
    """Add the parameters' gradients to ``grads``; return dx.

    Parameters
    ----------
    dh : ndarray of shape (R, H)
        May be overwritten.
    cache : list
        From `mlp_forward`.
    grads : Params
        Added to in place; None when only dx is wanted.
    coef : ndarray of shape (R,), optional
        How often each row counts in the parameters' gradients; dx is not scaled by it.
    down_to_x : bool
        False spares the last product where nobody needs dx (x is the data), and returns
        None.
    """
    for i in range(len(cache), 0, -1):
        linear_cache, tanh_cache = cache[i - 1]
        da = tanh_backward(dh, tanh_cache, kernels)
        if grads is not None:
            layer = f"{name}.hidden{i}"
            linear_backward_params(da, linear_cache, grads, layer, kernels, coef)
        if i == 1 and not down_to_x:
            return None
        dh = linear_backward(da, linear_cache, kernels)
    return dh


def mlp_cache_rows(cache, rows):
    """The cache of some rows only."""
    return [((x[rows], W), (h[rows],)) for (x, W), (h,) in cache]
