"""Gradient checks: every hand-written backward against finite differences, in float64.

A scalar function is measured along random directions. Cotangents (the dy that a
backward is given) are random too: with all ones an error in a softmax could go unseen,
as its rows always sum to one.
"""

from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from . import bernoulli, gaussian, layers, mlp
from .bounds import BOUNDS
from .gradient import bound_and_grad
from .kernels import DEVICE_OF
from .kernels.device import to_device
from .model import VAE
from .params import Params

TOLERANCE = 1e-8  # of |gradient| |direction|
# options to check the bounds with: each differs from the bounds it contains
BOUND_OPTIONS = {"miwae": {"m": 2}, "ciwae": {"beta": 0.3}, "vr": {"alpha": 0.4}}


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


def check_gradients(model, x, eps, bound="iwae", *, seed=0, **options):
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


def check_pieces(kernels, seed=0):
    """Every layer, density and bound by itself, on small random arrays with random
    cotangents.

    Returns
    -------
    list of Check
    """
    rng = np.random.default_rng(seed)
    put = to_device if DEVICE_OF[kernels] == "cuda" else np.asarray

    def normal(*shape):
        return put(rng.standard_normal(shape))

    def unwritten(shapes):
        n = sum(prod(shape) for shape in shapes.values())
        return Params(shapes, normal(n), shapes)

    def named(piece, f, arrays, grads):
        return [
            check_array(f"{piece}: {name}", f, arrays[name], grads[name], rng)
            for name in grads
        ]

    B, K, L, H, D = 3, 4, 5, 6, 7
    checks = []

    # linear
    at = {"x": normal(B, H), "W": normal(H, D), "b": normal(D)}
    dy, coef = normal(B, D), normal(B)
    _, cache = layers.linear_forward(**at, kernels=kernels)
    grads = unwritten({"linear.W": (H, D), "linear.b": (D,)})
    layers.linear_backward_params(dy, cache, grads, "linear", kernels, coef)
    dx = layers.linear_backward(dy, cache, kernels)

    def linear_sum(rows):
        return (rows * layers.linear_forward(**at, kernels=kernels)[0]).sum()

    checks += named("linear", lambda: linear_sum(dy), at, {"x": dx})
    checks += named(
        "linear",
        lambda: linear_sum(coef[:, None] * dy),
        at,
        {"W": grads["linear.W"], "b": grads["linear.b"]},
    )

    # tanh, with its bias: db is the sum of da, which the linear map's backward takes
    at, dh = {"a": normal(B, H), "b": normal(H)}, normal(B, H)
    _, cache = layers.tanh_forward(at["a"].copy(), at["b"], kernels)
    da = layers.tanh_backward(dh.copy(), cache, kernels)
    checks += named(
        "tanh",
        lambda: (dh * layers.tanh_forward(at["a"].copy(), at["b"], kernels)[0]).sum(),
        at,
        {"a": da, "b": da.sum(axis=0)},
    )

    # mlp
    weights = {}
    mlp.mlp_init(weights, "net", D, (H, L), rng, np.float64)
    at = {name: put(array) for name, array in weights.items()} | {"x": normal(B, D)}
    dh = normal(B, L)
    _, cache = mlp.mlp_forward(at["x"], at, "net", 2, kernels)
    grads = unwritten({name: array.shape for name, array in weights.items()})
    dx = mlp.mlp_backward(dh.copy(), cache, grads, "net", kernels)
    checks += named(
        "mlp",
        lambda: (dh * mlp.mlp_forward(at["x"], at, "net", 2, kernels)[0]).sum(),
        at,
        grads | {"x": dx},
    )

    # Bernoulli head
    x = put((rng.random((B, D)) < 0.5) * 1.0)
    at = {"h": normal(B * K, H), "head.W": normal(H, D), "head.b": normal(D)}
    seed_rows = normal(B, K)

    def bernoulli_sum():
        return (
            seed_rows * bernoulli.bernoulli_forward(at["h"], at, "head", x, kernels)[0]
        ).sum()

    _, cache = bernoulli.bernoulli_forward(at["h"], at, "head", x, kernels)
    grads = unwritten({"head.W": (H, D), "head.b": (D,)})
    dh = bernoulli.bernoulli_backward(cache, grads, "head", seed_rows.ravel(), kernels)
    checks += named(
        "bernoulli", bernoulli_sum, at, grads | {"h": seed_rows.reshape(-1, 1) * dh}
    )

    # the reparameterised draw, and log q(z|x) as it reaches mu and log_sigma: at fixed
    # z by score, through z by path
    at = {"mu": normal(B, L), "log_sigma": normal(B, L)}
    eps, dz, path, score = normal(B, K, L), normal(B, K, L), normal(B, K), normal(B, K)
    start = {name: array.copy() for name, array in at.items()}
    z_start = gaussian.reparameterize(**at, eps=eps, kernels=kernels)

    def log_q(z, mu, log_sigma):
        each = [gaussian.log_density(z[:, k], mu, log_sigma) for k in range(K)]
        return np.stack(each, axis=1)  # (B, K)

    def reparameterized():
        z = gaussian.reparameterize(**at, eps=eps, kernels=kernels)
        return (dz * z).sum() + (
            score * log_q(z_start, **at) - path * log_q(z, **start)
        ).sum()

    dmu, dlog_sigma = gaussian.reparameterize_backward(
        dz, eps, at["log_sigma"], path, score, kernels
    )
    checks += named(
        "reparameterize", reparameterized, at, {"mu": dmu, "log_sigma": dlog_sigma}
    )

    # log-density
    at, seed_rows = (
        {"z": normal(B, L), "mu": normal(B, L), "log_sigma": normal(B, L)},
        normal(B),
    )
    grads = dict(
        zip(at, (seed_rows[:, None] * d for d in gaussian.log_density_backward(**at)))
    )
    checks += named(
        "log_density", lambda: (seed_rows * gaussian.log_density(**at)).sum(), at, grads
    )

    # closed-form KL
    del at["z"]
    grads = dict(
        zip(
            at,
            (
                seed_rows[:, None] * d
                for d in gaussian.kl_to_standard_normal_backward(**at)
            ),
        )
    )
    checks += named(
        "kl",
        lambda: (seed_rows * gaussian.kl_to_standard_normal(**at)).sum(),
        at,
        grads,
    )

    # log-weight under the prior: d/dz = -z
    at, seed_rows = {"z": normal(B, K, L)}, normal(B, K)
    log_px, eps, log_sigma = normal(B, K), normal(B, K, L), normal(B, L)
    checks += named(
        "log_weight",
        lambda: (
            seed_rows * gaussian.log_weight(log_px, at["z"], eps, log_sigma, kernels)
        ).sum(),
        at,
        {"z": -seed_rows[:, :, None] * at["z"]},
    )

    # bounds: c is the derivative of value, and dc that of c
    for name, function in BOUNDS.items():
        bound = partial(function, kernels=kernels, **BOUND_OPTIONS.get(name, {}))
        at, seed_rows = {"log_w": normal(B, K)}, normal(B)
        c = bound(at["log_w"])[1]
        checks += named(
            f"{name}, c",
            lambda: seed_rows @ bound(at["log_w"])[0],
            at,
            {"log_w": seed_rows[:, None] * c},
        )
        at = {"log_w": normal(B, K)}
        k = rng.integers(K)
        dc = bound(at["log_w"])[2][:, k]

        def c_of(column):
            log_w = at["log_w"].copy()
            log_w[:, k] = column
            return seed_rows @ bound(log_w)[1][:, k]

        column = at["log_w"][:, k].copy()
        checks.append(
            check_array(
                f"{name}, dc: log_w", lambda: c_of(column), column, seed_rows * dc, rng
            )
        )
    return checks


def small_model(kernels, latent_dims, hidden_dims, seed=0, k=3):
    """A float64 model with all parameters random, biases too, and a batch: for checks
    that take milliseconds.

    Returns
    -------
    model : VAE
    x : ndarray of shape (4, 12)
    eps : list of ndarray of shape (4, k, L)
    """
    rng = np.random.default_rng(seed)
    settings = {"dtype": np.float64, "rng": rng, "device": DEVICE_OF[kernels]}
    model = VAE(12, latent_dims, hidden_dims, **settings, kernels=kernels)
    for array in model.params.values():
        array += model.put(0.3 * rng.standard_normal(array.shape))
    x = (rng.random((4, 12)) < 0.5) * 1.0
    return model, x, model.draw_eps(4, k, rng)
