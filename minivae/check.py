"""Gradient checks: every hand-written backward against finite differences, in float64.

A scalar function is measured along random directions. Cotangents (the dy that a
backward is given) are random too: with all ones an error in a softmax could go unseen,
as its rows always sum to one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .gradient import bound_and_grad
from .model import VAE

TOLERANCE = 1e-8  # of |gradient| |direction|


class Check(NamedTuple):
    """One line of the table: the worst direction of one array."""

    name: str
    analytic: float
    numeric: float
    error: float  # |analytic - numeric| / (|gradient| |direction|)


def derivative(f, h=0.03, rows=6):
    """df/dt at t = 0, by central differences extrapolated to step 0 (Ridders 1982).

    Row i of the tableau has step h / 2^i; column j removes the error term of order
    step^(2j). The entry that differs least from its neighbours is returned, so that
    neither a step too long nor one too short decides.

    Parameters
    ----------
    f : callable
        float -> float.
    h : float
        The longest step.

    Returns
    -------
    float
    """
    best, best_change, above = np.nan, np.inf, []
    for i in range(rows):
        step = h / 2**i
        row = [(f(step) - f(-step)) / (2 * step)]
        for j in range(1, i + 1):
            row.append(row[-1] + (row[-1] - above[j - 1]) / (4**j - 1))
            change = max(abs(row[j] - row[j - 1]), abs(row[j] - above[j - 1]))
            if change < best_change:
                best, best_change = row[j], change
        above = row
    return best


def check_array(name, f, array, grad, rng, directions=3):
    """Compare ``grad`` with finite differences of ``f()``, moving ``array`` in place
    along random directions.

    Returns
    -------
    Check
        Of the worst direction.
    """
    saved, worst = array.copy(), None
    for _ in range(directions):
        direction = np.asarray(rng.standard_normal(array.shape), like=array)
        direction /= np.linalg.norm(direction)

        def along(t):
            array[...] = saved + t * direction
            return float(f())

        numeric, analytic = derivative(along), float((grad * direction).sum())
        array[...] = saved
        norm = max(float(np.linalg.norm(grad)), np.finfo(float).tiny)
        error = abs(analytic - numeric) / norm
        if worst is None or not error <= worst.error:  # a NaN is the worst there is
            worst = Check(name, analytic, numeric, error)
    return worst


def check_gradients(
    model: VAE,
    x: ArrayLike,
    eps: list[np.ndarray],
    bound: str = "iwae",
    *,
    seed: int = 0,
    **options,
) -> list[Check]:
    """The whole model's plain gradient, one parameter array after the other.

    Parameters
    ----------
    model : VAE
        Of dtype float64.
    x, eps, bound
        As for `bound_and_grad`. The estimator is "reparam", the only one that is the
        derivative of the bound at fixed eps.
    seed : int
        Of the directions.
    **options
        Of the bound.

    Returns
    -------
    list of Check

    Raises
    ------
    ValueError
        If the model is float32: its rounding would drown the differences.
    """
    if model.dtype != np.float64:
        raise ValueError(f"a gradient check needs a float64 model; got {model.dtype}")
    rng = np.random.default_rng(seed)

    def value():
        return bound_and_grad(model, x, eps, bound, **options)[0]

    _, grads = bound_and_grad(model, x, eps, bound, **options)
    return [
        check_array(name, value, array, grads[name], rng)
        for name, array in model.params.items()
    ]


def check_backward(piece, inputs, forward, backward, rng):
    """A backward against its forward, with random cotangents.

    Parameters
    ----------
    piece : str
        Its name in the table.
    inputs : dict
        Name -> array, which is moved in place.
    forward : callable
        Of nothing: the outputs at ``inputs``, an array or a tuple of arrays.
    backward : callable
        The outputs' cotangents -> a dict with the gradients of inputs.

    Returns
    -------
    list of Check
    """

    def outputs():
        ys = forward()
        return ys if isinstance(ys, tuple) else (ys,)

    def total():
        return sum((dy * y).sum() for dy, y in zip(dys, outputs()))

    dys = [np.asarray(rng.standard_normal(y.shape), like=y) for y in outputs()]
    return [
        check_array(f"{piece}: {name}", total, inputs[name], grad, rng)
        for name, grad in backward(*(dy.copy() for dy in dys)).items()
    ]
