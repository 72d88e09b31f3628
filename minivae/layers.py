"""Layers: the linear map, the linear map with tanh, and the chain of them, forward and
backward side by side.

A layer is identified by its name: ``q1.hidden1`` has the parameters ``q1.hidden1.W``
(I, O) and ``q1.hidden1.b`` (O,). ``model`` is anything with ``params``, which maps
names to arrays, and ``ops``, the functions of a version of the kernels: ``ops.tanh`` is
in ``kernels/tanh.py``, where the version to read is ``tanh_numpy``.

A forward returns its output and, where the backward needs more than its input, a cache;
nothing else is remembered anywhere. Rows of a batch are independent, so the gradient of
a parameter is a sum over rows. The decoder's backward pass starts from 1 for each row,
and not from the row's coefficient, because the parameters and z have different ones
(chapter 10). So a sum over rows takes the weights ``coef`` (R,) here, which an
estimator calls theta; dx has none.
"""

from itertools import pairwise

import numpy as np


def glorot_uniform(n_in, n_out, rng, dtype):
    """Weights (n_in, n_out) with which a signal keeps its variance in the forward and
    in the backward pass, about (Glorot & Bengio 2010; eq. 6.7).
    """
    limit = np.sqrt(6 / (n_in + n_out))  # eq. 6.7
    return rng.uniform(-limit, limit, (n_in, n_out)).astype(dtype)


def linear_init(arrays, name, n_in, n_out, rng, dtype):
    """Add a layer's weights and its bias, which is zero, to ``arrays``."""
    arrays[f"{name}.W"] = glorot_uniform(n_in, n_out, rng, dtype)
    arrays[f"{name}.b"] = np.zeros(n_out, dtype)


def linear_forward(model, name, x):
    """y = x W + b, from x (R, I) to y (R, O)."""
    W, b = model.params[f"{name}.W"], model.params[f"{name}.b"]
    y = model.ops.matmul(x, W)  # (R, O)
    y += b  # eq. 6.1
    return y


def linear_backward(model, name, dy, x, *, grads=None, coef=None, to_input=True):
    """The gradient that a linear map hands down to its input.

    Parameters
    ----------
    dy : ndarray of shape (R, O)
    x : ndarray of shape (R, I)
        The forward's input.
    grads : Params, optional
        Where the gradients of W and b are added. Left out, only dx is wanted.
    coef : ndarray of shape (R,), optional
        The weight of each row in them. Left out, it is 1.
    to_input : bool
        False spares the product where dx is not wanted, as x is the data.

    Returns
    -------
    dx : ndarray of shape (R, I), or None
    """
    matmul = model.ops.matmul
    if grads is not None:
        if coef is None:
            coef = np.ones_like(dy, shape=len(dy))
        else:
            x = coef[:, None] * x  # x, and not dy, as dx has no weights
        grads.add_product(f"{name}.W", matmul, x.T, dy)  # eq. 6.3
        grads.add_product(f"{name}.b", matmul, coef, dy)  # eq. 6.4
    return matmul(dy, model.params[f"{name}.W"].T) if to_input else None  # eq. 6.2


def hidden_forward(model, name, x):
    """h = tanh(x W + b), from x (R, I) to h (R, H)."""
    W, b = model.params[f"{name}.W"], model.params[f"{name}.b"]
    return model.ops.tanh(model.ops.matmul(x, W), b)  # eqs. 6.1 and 6.5


def hidden_backward(model, name, dh, h, x, **how):
    """dx, given dh (R, H), which may be overwritten, and the forward's h and x.

    The keywords ``grads``, ``coef`` and ``to_input`` are those of `linear_backward`.
    """
    da = model.ops.tanh_backward(dh, h)  # eq. 6.6
    return linear_backward(model, name, da, x, **how)


def mlp_init(arrays, name, n_in, widths, rng, dtype):
    """Add the layers ``name.hidden1``, ``name.hidden2``, ... of these widths."""
    for i, (n, n_out) in enumerate(pairwise((n_in, *widths)), start=1):
        linear_init(arrays, f"{name}.hidden{i}", n, n_out, rng, dtype)


def mlp_forward(model, name, x):
    """x (R, I) through all hidden layers of the network ``name``.

    Returns
    -------
    hs : list of ndarray
        x and the output (R, H) of each hidden layer: the last is the network's, and all
        are what the backward needs.
    """
    hs, i = [x], 1
    while f"{name}.hidden{i}.W" in model.params:
        hs.append(hidden_forward(model, f"{name}.hidden{i}", hs[-1]))
        i += 1
    return hs


def mlp_backward(model, name, dh, hs, *, grads=None, coef=None, to_input=True):
    """dx, given dh (R, H), which may be overwritten, and the forward's ``hs``.

    ``grads``, ``coef`` and ``to_input`` are as for `linear_backward`.
    """
    for i in range(len(hs) - 1, 0, -1):
        how = {"grads": grads, "coef": coef, "to_input": to_input or i > 1}
        dh = hidden_backward(model, f"{name}.hidden{i}", dh, hs[i], hs[i - 1], **how)
    return dh
