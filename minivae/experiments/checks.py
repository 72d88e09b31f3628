"""Which check sees which bug of the museum (chapter 27)."""

from types import FunctionType
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm, qmc

from .. import bounds, estimators, gradient, log_weights
from ..check import derivative
from ..engine.registry import BOUNDS
from ..kernels import load_ops
from ..model import VAE
from . import oracle
from .exhibits import EXHIBITS, planted

GROUPS = 2  # of the program "miwae"
PROGRAMS = {"iwae": 1, "miwae": 1, "dreg": 1, "two layers": 2}  # and their layers
# `train` of a copy of minimal.py tells its bound instead of printing it and a digit
TELL = {
    'print(f"epoch {epoch}: {total / len(images):.2f} nats")': (
        "told.append(total / len(images))\n        after_epoch()\n        continue"
    )
}


class Program(NamedTuple):
    """What is checked and trained."""

    # model, x, eps -> value (B,), log_w (B, K), and the gradient of the values' mean
    run: callable
    rows: callable  # log_w -> value (B,) and theta (B, K), the decoder's coefficients
    page: object  # a copy of minimal.py, for its `train`
    groups: int  # equal groups of samples
    layers: int
    plain: tuple  # networks, p and q, whose gradient is the derivative at fixed noise


def program(name, exhibit=None):
    """One of `PROGRAMS`, right, or with the bug of an exhibit planted."""
    file, edits = (exhibit.file, exhibit.edits) if exhibit else (None, {})
    page = planted("minimal.py", TELL | (edits if file == "minimal.py" else {}))

    def module(right):
        own = f"{right.__name__.rpartition('.')[2]}.py"
        return planted(own, edits) if file == own else right

    if name in ("dreg", "two layers"):
        dreg = module(estimators).dreg
        run = by_gradient(dreg, module(log_weights).log_weights_backward)

        def rows(log_w):
            return dreg(BOUNDS["iwae"], log_w)[:2]

    else:
        miwae, ops = module(bounds).miwae, load_ops("numpy")

        def rows(log_w):
            if name == "iwae":
                return page.iwae(log_w)
            return miwae(log_w, m=GROUPS, ops=ops)[:2]

        run = by_page(page.bound_and_grad, rows)
    groups = GROUPS if name == "miwae" else 1
    plain = ("p",) if name in ("dreg", "two layers") else ("p", "q")
    return Program(run, rows, page, groups, PROGRAMS[name], plain)


def by_page(bound_and_grad, bound):
    """`Program.run` by minimal.py."""

    def run(model, x, eps):
        seen = []

        def watched(log_w):
            value, c = bound(log_w)
            seen.extend((value, log_w))
            return value, c

        _, grads = bound_and_grad(model.params, x, eps[0], watched)
        return *seen, grads

    return run


def by_gradient(estimator, backward):
    """`Program.run` by gradient.py, with this backward pass of the log-weights."""
    right = gradient.gradient
    names = vars(gradient) | {"log_weights_backward": backward}
    step = FunctionType(right.__code__, names, argdefs=right.__defaults__)

    def run(model, x, eps):
        seen, grads = [], model.params.zeros()

        def watched(bound, log_w):
            value, *rows = estimator(bound, log_w)
            seen.extend((value, log_w))
            return value, *rows

        step(model, x, eps, BOUNDS["iwae"], watched, grads, scale=1 / len(x))
        return *seen, grads

    return run


# The checks. Each is True where a program passes it


def small(layers, latent=2, copies=1):
    """A float64 model with random biases too, four images, ``copies`` of each.

    q is somewhat wider than the posterior, so that its weights are even enough.
    """
    rng = np.random.default_rng(0)
    sizes = (latent,) * layers, ((7, 6),) * layers
    model = VAE(9, *sizes, dtype=np.float64, rng=rng, kernels="numpy")
    for name, array in model.params.items():
        array += 0.3 * rng.standard_normal(array.shape)
        array *= 0.3 if ".mu" in name or ".log_sigma" in name else 0.6
        array += 0.2 * (name[0] == "q" and name.endswith("log_sigma.b"))
    x = (rng.random((4, 9)) < 0.5) * 1.0
    return model, np.repeat(x, copies, axis=0), rng


def agrees(a, b, tolerance=1e-7):
    return bool(np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b))


def slopes(program, model, x, eps, networks):
    """Of the mean value along one random direction of the ``networks``' parameters: by
    the program's gradient, and by finite differences.
    """
    rng, start = np.random.default_rng(1), model.params.vector.copy()
    direction = model.params.zeros()
    for name, array in direction.items():
        if name.startswith(networks):
            array[...] = rng.standard_normal(array.shape)

    def along(t):
        model.params.vector[:] = start + t * direction.vector
        return program.run(model, x, eps)[0].mean()

    _, _, grads = program.run(model, x, eps)
    analytic = sum((grads[name] * direction[name]).sum() for name in direction)
    numeric = derivative(along, rows=3)
    model.params.vector[:] = start
    return analytic, numeric


def finite_differences(program):
    """At fixed noise. Of dreg, the decoder's gradient alone is a derivative there."""
    model, x, rng = small(program.layers)
    eps = model.draw_eps(4, 6, rng)
    return agrees(*slopes(program, model, x, eps, program.plain), tolerance=1e-5)


def mean_gradient(program):
    """What is no derivative at fixed noise must be one in the mean over the noise: here
    over scrambled Sobol points, for K = 2 and one latent unit in each layer.
    """
    if program.plain == ("p", "q"):
        return finite_differences(program)
    (model, x, _), layers, errors = small(program.layers, latent=1), program.layers, []
    for seed in range(8):
        sobol = qmc.Sobol(2 * layers, rng=np.random.default_rng(seed))
        eps = norm.ppf(sobol.random_base2(10)).reshape(-1, layers, 2, 1)
        images = np.repeat(x[:1], len(eps), axis=0)
        eps = [eps[:, l].copy() for l in range(layers)]
        analytic, numeric = slopes(program, model, images, eps, ("p", "q1"))
        errors.append(analytic - numeric)
    return bool(abs(np.mean(errors)) < 6 * np.std(errors) / np.sqrt(len(errors)))


def all_ones(program):
    """As if all the log-weights of an image moved alike."""
    log_w = 2 * np.random.default_rng(0).standard_normal((5, 6))
    _, theta = program.rows(log_w)
    numeric = derivative(lambda t: program.rows(log_w + t)[0].sum())
    return agrees(theta.sum(), numeric)


def scipy_densities(decoder=1.0):
    """Log-weights and values; ``decoder`` makes the last layer's weights larger."""

    def check(program):
        model, x, rng = small(program.layers)
        model.params["p1.logits.W"] *= decoder
        eps, params = model.draw_eps(4, 6, rng), model.params
        z = oracle.draw(params, x, eps)
        expected = oracle.log_p(params, x, z) - oracle.log_q(params, x, z)
        groups = expected.reshape(4, program.groups, -1)
        bound = logsumexp(groups, axis=2) - np.log(groups.shape[2])
        value, log_w, _ = program.run(model, x, eps)
        return agrees(log_w, expected) and agrees(value, bound.mean(axis=1))

    return check


def exact_model(program):
    """Many samples must come to log p(x), which quadrature over the prior gives."""
    copies, samples, latent = 10, 500, 2 if program.layers == 1 else 1
    model, x, rng = small(program.layers, latent, copies)
    node, weight = np.polynomial.hermite_e.hermegauss(30)
    unit = np.stack(np.meshgrid(node, node), axis=-1).reshape(1, -1, 2)
    log_weight = np.log(np.outer(weight, weight).ravel() / weight.sum() ** 2)
    z = [unit]
    if program.layers == 2:  # z_1 is drawn from p(z_1|z_2)
        z_2 = unit[..., 1:]
        head = oracle.network(model.params, "p2", z_2)
        z = [head["mu"] + np.exp(head["log_sigma"]) * unit[..., :1], z_2]
    log_px = logsumexp(oracle.log_px(model.params, x, z[0]) + log_weight, axis=1)
    value, _, _ = program.run(model, x, model.draw_eps(len(x), samples, rng))
    return bool(np.abs((value - log_px).reshape(4, copies).mean(axis=1)).max() < 0.05)


def one_sample(program):
    """With one sample in each group it is the ELBO."""
    log_w = np.random.default_rng(0).standard_normal((5, program.groups))
    value, theta = program.rows(log_w)
    return agrees(value, log_w.mean(axis=1)) and np.allclose(theta, 1 / program.groups)


def rises(program):
    """With 4 and with 16 samples in each group, from the same log-weights."""
    log_w = np.random.default_rng(0).standard_normal((200, 16 * program.groups))
    means = [
        program.rows(log_w.reshape(-1, n * program.groups))[0].mean()
        for n in (1, 4, 16)
    ]
    return bool((np.diff(means) > 0.01).all())


CHECKS = {
    "finite differences": finite_differences,
    "all ones": all_ones,
    "SciPy": scipy_densities(),
    "SciPy, large logits": scipy_densities(60.0),
    "exact model": exact_model,
    "K = 1 is the ELBO": one_sample,
    "rises with K": rises,
    "mean gradient": mean_gradient,
}


def which_checks_see():
    """Exhibit -> check -> whether it sees the bug."""
    sees = {}
    for name, exhibit in EXHIBITS.items():
        bug = program(exhibit.program, exhibit)
        sees[name] = {check: not passes(bug) for check, passes in CHECKS.items()}
    return sees
