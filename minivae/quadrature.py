"""log p(x) and p(z|x) of a model with two latent units, on a grid (chapter 28).

Where z has two units the integral over it is a sum, and what it gives is what every
estimate of log p(x) is held against. So it shares nothing with those but the decoder's
layers, which give the logits: the likelihood is written out here, in float64.
"""

import numpy as np

from .engine.batching import shards
from .engine.checks import check_finite, check_x
from .engine.threads import each
from .gaussian import HALF_LOG_2PI
from .kernels.device import to_host
from .layers import linear_forward, mlp_forward

WIDTH = 9.0  # the grid ends at +- this in each unit: 5e-19 of the prior lies outside
POINTS, MOST_POINTS = 150, 2400  # in each unit, to begin and to end with
TOLERANCE = 1e-3  # nats by which the last doubling may change log p(x)


def log_px_on_a_grid(model, x):
    """log p(x) by the midpoint rule, its points doubled until nothing changes.

    Parameters
    ----------
    model : VAE
        Of two latent units in one stochastic layer, with likelihood "bernoulli".
    x : ndarray of shape (B, D)
        Zeros and ones.

    Returns
    -------
    log_px : ndarray of shape (B,) float64
        In nats (eq. 28.1).
    change : float
        What the last doubling changed, at most: the error is far smaller.
    points : int
        In each unit, at the end.

    Raises
    ------
    ValueError
        For another model; and if `MOST_POINTS` are too few, because the posterior is
        narrower than a cell.
    """
    x, points = check_x(check_two_units(model), x), POINTS
    log_px = midpoint_rule(model, x, points)
    while points < MOST_POINTS:
        points, before = 2 * points, log_px
        log_px = midpoint_rule(model, x, points)
        change = float(abs(log_px - before).max())
        if change < TOLERANCE:
            return log_px, change, points
    raise ValueError(
        f"doubling a grid to {points} points a unit changes log p(x) by {change:.2g}"
        " nats: the posterior of an image is narrower than a cell"
    )


def midpoint_rule(model, x, points):
    """log of the sum over the cells of a grid, (B,) (eq. 28.1)."""
    cell = 2 * WIDTH / points
    middles = (np.arange(points) + 0.5) * cell - WIDTH

    def of_part(part):
        total = np.full(len(x), -np.inf)
        for first in middles[part]:  # a line of the grid at a time
            line = log_joint(model, x, np.array([first]), middles)[:, 0]
            total = np.logaddexp(total, np.logaddexp.reduce(line, axis=1))
        return total

    parts = each(of_part, shards(0, points, points))
    return np.logaddexp.reduce(parts) + 2 * np.log(cell)  # eq. 28.1


def log_joint(model, x, first, second):
    """log p(x, z) where z's units have these values, in nats.

    Parameters
    ----------
    x : ndarray of shape (B, D)
    first : ndarray of shape (P,)
    second : ndarray of shape (Q,)

    Returns
    -------
    log_p : ndarray of shape (B, P, Q) float64
    """
    z = np.stack(np.meshgrid(first, second, indexing="ij"), axis=2).reshape(-1, 2)
    h = mlp_forward(model, "p1", model.to_device(z.astype(model.dtype)))[-1]
    logits = to_host(linear_forward(model, "p1.logits", h)).astype(np.float64)
    log_px = x.astype(np.float64) @ logits.T - np.logaddexp(0, logits).sum(axis=1)
    log_prior = -(z**2 / 2 + HALF_LOG_2PI).sum(axis=1)
    return (log_px + log_prior).reshape(len(x), len(first), len(second))


def check_two_units(model):
    """``model``, if it is one that a grid can hold."""
    if model.latent_dims != (2,) or model.likelihood != "bernoulli":
        raise ValueError(
            "a grid is for latent_dims (2,) and likelihood 'bernoulli'; got"
            f" {model.latent_dims} and {model.likelihood!r}"
        )
    return check_finite(model)
