"""What ``minivae gradcheck`` runs: every layer, density and bound by itself, and whole
models by every bound.
"""

import time
from math import prod
from types import SimpleNamespace

import numpy as np

from . import bernoulli, gaussian, layers
from .check import TOLERANCE, check_backward, check_gradients
from .data import binarize, load
from .engine.params import Params
from .engine.registry import BOUNDS, CLOSED_FORMS, bound_names
from .engine.report import say
from .kernels import DEVICE_OF, load_ops
from .kernels.device import to_device
from .model import VAE


def check_pieces(kernels, seed=0):
    """Every layer, density and bound by itself, on small random arrays.

    Returns
    -------
    list of Check
    """
    rng, ops = np.random.default_rng(seed), load_ops(kernels)
    on_device = to_device if DEVICE_OF[kernels] == "cuda" else np.asarray
    B, K, L, H, D = 3, 4, 5, 6, 7
    checks = []

    def normal(*shape):
        return on_device(rng.standard_normal(shape))

    def check(piece, inputs, forward, backward):
        checks.extend(check_backward(piece, inputs, forward, backward, rng))

    def check_layer(piece, at, forward, backward):
        """``at`` holds parameters, and x. Rows are counted by coef where dy was divided
        by it, so that the whole is the plain gradient.
        """
        net = SimpleNamespace(params=at, ops=ops)
        coef = normal(len(at["x"]))
        shapes = {name: array.shape for name, array in at.items() if name != "x"}
        noise = normal(sum(prod(shape) for shape in shapes.values()))

        def gradients(dy):
            grads = Params(shapes, noise, uninitialised=shapes)
            dx = backward(net, dy, coef=coef, grads=grads)
            return {"x": coef[:, None] * dx, **grads}

        check(piece, at, lambda: forward(net, at["x"]), gradients)

    check_layer(
        "linear",
        {"x": normal(B, H), "f.W": normal(H, D), "f.b": normal(D)},
        lambda net, x: layers.linear_forward(net, "f", x),
        lambda net, dy, coef, grads: layers.linear_backward(
            net, "f", dy / coef[:, None], net.params["x"], coef=coef, grads=grads
        ),
    )
    weights = {}
    layers.mlp_init(weights, "f", D, (H, L), rng, np.float64)
    weights = {name: on_device(array) for name, array in weights.items()}
    check_layer(
        "mlp",
        {"x": normal(B, D)} | weights,
        lambda net, x: layers.mlp_forward(net, "f", x)[-1],
        lambda net, dy, coef, grads: layers.mlp_backward(
            net, "f", dy / coef[:, None], layers.mlp_forward(net, "f", net.params["x"]),
            coef=coef, grads=grads,
        ),
    )  # fmt: skip
    images = on_device((rng.random((B, D)) < 0.5) * 1.0)

    def bernoulli_backward(net, dy, coef, grads):
        h = net.params["x"]
        _, a = bernoulli.bernoulli_forward(net, "f", h, images)
        coef[...] = dy.ravel()  # each row's seed
        how = {"coef": coef, "grads": grads}
        return bernoulli.bernoulli_backward(net, "f", a, h, images, **how)

    check_layer(
        "bernoulli",
        {"x": normal(B * K, H), "f.W": normal(H, D), "f.b": normal(D)},
        lambda net, h: bernoulli.bernoulli_forward(net, "f", h, images)[0],
        bernoulli_backward,
    )

    # tanh, with its bias: db is the sum of da
    at = {"a": normal(B, H), "b": normal(H)}

    def tanh():
        return ops.tanh(at["a"].copy(), at["b"])

    def tanh_backward(dh):
        da = ops.tanh_backward(dh, tanh())
        return {"a": da, "b": da.sum(axis=0)}

    check("tanh", at, tanh, tanh_backward)

    # the reparameterised draw, and log q(z|x) as it reaches mu and log_sigma: at fixed
    # z by score, through z by path
    q, eps = {"mu": normal(B, L), "log_sigma": normal(B, L)}, normal(B, K, L)
    start = {name: array.copy() for name, array in q.items()}
    z_start = ops.reparameterize(q["mu"], q["log_sigma"], eps)

    def log_q(z, mu, log_sigma):
        each = [gaussian.log_density(z[:, k], mu, log_sigma) for k in range(K)]
        return np.stack(each, axis=1)  # (B, K)

    def draw():
        z = ops.reparameterize(q["mu"], q["log_sigma"], eps)
        return z, log_q(z_start, **q), -log_q(z, **start)

    def draw_backward(dz, score, path):
        heads = ops.reparameterize_backward(dz, eps, q["log_sigma"], path, score)
        return dict(zip(q, heads))

    check("reparameterize", q, draw, draw_backward)

    log_sigma, log_px, z = normal(B, L), normal(B, K), {"z": normal(B, K, L)}
    check(
        "log_weight",
        z,
        lambda: ops.log_weight(log_px, z["z"], eps, log_sigma),
        lambda dy: {"z": -dy[:, :, None] * z["z"]},
    )
    density = {"z": normal(B, L), "mu": normal(B, L), "log_sigma": normal(B, L)}
    for piece, inputs, forward, backward in (
        ("log_density", density, gaussian.log_density, gaussian.log_density_backward),
        (
            "kl",
            q,
            gaussian.kl_to_standard_normal,
            gaussian.kl_to_standard_normal_backward,
        ),
    ):
        check(
            piece,
            inputs,
            lambda: forward(**inputs),
            lambda dy: {
                name: dy[:, None] * d
                for name, d in zip(inputs, backward(**inputs), strict=True)
            },
        )

    for bound in BOUNDS.values():  # c is the derivative of value, and dc that of c
        function, k = bound.bind(ops, bound.examples()), rng.integers(K)
        at, other = {"log_w": normal(B, K)}, {"log_w": normal(B, K)}
        column = {"log_w": other["log_w"][:, k].copy()}

        def c_of_column():
            other["log_w"][:, k] = column["log_w"]
            return function(other["log_w"])[1][:, k]

        check(
            f"{bound.name}, c",
            at,
            lambda: function(at["log_w"])[0],
            lambda dy: {"log_w": dy[:, None] * function(at["log_w"])[1]},
        )
        if function(at["log_w"])[2] is not None:
            check(
                f"{bound.name}, dc",
                column,
                c_of_column,
                lambda dy: {"log_w": dy * function(other["log_w"])[2][:, k]},
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
        array += model.to_device(0.3 * rng.standard_normal(array.shape))
    x = (rng.random((4, 12)) < 0.5) * 1.0
    return model, x, model.draw_eps(4, k, rng)


def gradcheck(kernels):
    """Every piece, and two whole models by every bound, with each of ``kernels``. How
    long each of these took is said on stderr when it is done.

    Returns
    -------
    table : str
        The worst figure of each array, over bounds and kernels.
    failed : int
        How many checks were beyond `TOLERANCE`.
    """
    x = binarize(load("mnist").test_images[:4], np.random.default_rng(0))
    checks = []  # (where, Check)
    start = time.perf_counter()

    def say_time(what):
        nonlocal start
        now = time.perf_counter()
        say(f"{what}: {now - start:.1f} s", "stderr")
        start = now

    for version in kernels:
        checks += [(version, check) for check in check_pieces(version)]
        say_time(f"{version}, the pieces")
        rng = np.random.default_rng(0)
        settings = {"rng": rng, "device": DEVICE_OF[version], "kernels": version}
        real = VAE(784, dtype=np.float64, **settings)
        models = {
            "784-200-200-50": (real, x, real.draw_eps(len(x), 4, rng)),
            "two layers": small_model(version, (4, 3), ((6, 5), (4, 5)), k=4),
        }
        for name, (model, x_of, eps) in models.items():
            for bound in bound_names():
                if bound in CLOSED_FORMS and len(model.latent_dims) > 1:
                    continue
                for check in check_gradients(
                    model, x_of, eps, bound, **examples(bound)
                ):
                    check = check._replace(name=f"{name}: {check.name}")
                    checks.append((f"{bound}, {version}", check))
                say_time(f"{version}, {name}, {bound}")
    worst = {}
    for where, check in checks:
        if check.name not in worst or not check.error <= worst[check.name][1].error:
            worst[check.name] = where, check
    lines = [f"{'array':<30} {'error':>8} {'analytic':>22} {'numeric':>22}  worst in"]
    for where, check in worst.values():
        flag = "" if check.error <= TOLERANCE else "  FAILED"
        numbers = f"{check.error:8.1e} {check.analytic:22.14e} {check.numeric:22.14e}"
        lines.append(f"{check.name:<30} {numbers}  {where}{flag}")
    failed = sum(not check.error <= TOLERANCE for _, check in checks)
    top = max(check.error for _, check in checks)
    lines += [
        "",
        f"{len(checks)} checks of 3 directions each, kernels {' and '.join(kernels)};"
        " error = |analytic - numeric| / (|gradient| |direction|)",
        f"worst {top:.1e}, allowed {TOLERANCE:.0e}; {failed} failed",
    ]
    return "\n".join(lines), failed


def examples(bound):
    """The options with which the bound of this name is checked."""
    return BOUNDS[bound].examples() if bound in BOUNDS else {}
