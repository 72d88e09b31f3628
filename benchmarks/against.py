"""Hold minivae against other implementations, in float64 and on the same numbers.

    python -m venv .venv-against
    .venv-against/bin/pip install -e . torch jax numpyro pyro-ppl pythae
    # TensorFlow Probability 0.25, its newest, does not import with a JAX of today
    .venv-against/bin/python benchmarks/against.py

Densities, KL, log-weights, every bound of log-weights with its c and dc, and the
gradient of every parameter of a small model are compared with what PyTorch and JAX
differentiate, and with what NumPyro, Pyro and pythae compute. Where another one is
found to compute something else, two lines of arithmetic say what. Libraries that are
missing are named.
Writes results/against/against.json and results/against/against.md.
"""

import json
import os
import sys
import types
from importlib import import_module, metadata
from math import log, pi
from pathlib import Path

import numpy as np

import minivae as mv
from minivae.gaussian import kl_to_standard_normal, log_density
from minivae.gradcheck import small_model

OUT = Path(__file__).parent / "results" / "against"
ALLOWED = 1e-12  # relative to the largest number compared
OPTIONS = {"miwae": {"m": 2}, "ciwae": {"beta": 0.3}, "vr": {"alpha": 0.4}}
BOUNDS = ["elbo", "iwae", "miwae", "ciwae", "vr", "jackknife"]


def difference(ours, theirs):
    """The largest difference, relative to the largest of our numbers."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def inputs():
    """x (B, D), mu and log_sigma (B, L), z (B, L), logits (B, D), log_w (B, K)."""
    rng = np.random.default_rng(0)
    return {
        "x": (rng.random((5, 12)) < 0.5) * 1.0,
        "mu": rng.standard_normal((5, 3)),
        "log_sigma": 0.5 * rng.standard_normal((5, 3)),
        "z": rng.standard_normal((5, 3)),
        "logits": 4 * rng.standard_normal((5, 12)),
        "log_w": 3 * rng.standard_normal((5, 6)) - 80,
    }


def bernoulli(x, logits):
    """minivae's log p(x|z), from the kernel that has the last bias of the decoder."""
    from minivae.kernels.bernoulli import bernoulli_numpy

    return bernoulli_numpy(logits[:, None, :], np.zeros(x.shape[1]), x)[:, 0]


def value_of(xp, logsumexp, name, log_w):
    """A bound, written again for a framework that differentiates it."""
    K = log_w.shape[1]
    if name == "elbo":
        return log_w.mean(1)
    if name == "iwae":
        return logsumexp(log_w) - log(K)
    if name == "miwae":
        groups = log_w.reshape(-1, K // 2)
        return (logsumexp(groups) - log(K // 2)).reshape(-1, 2).mean(1)
    if name == "ciwae":
        return 0.3 * log_w.mean(1) + 0.7 * (logsumexp(log_w) - log(K))
    if name == "vr":
        return (logsumexp(0.6 * log_w) - log(K)) / 0.6
    left_out = [
        logsumexp(xp.concatenate([log_w[:, :k], log_w[:, k + 1 :]], 1)) - log(K - 1)
        for k in range(K)
    ]
    return K * (logsumexp(log_w) - log(K)) - (K - 1) / K * sum(left_out)


# Each library: a function of the inputs that yields (what, ours, theirs)


def torch(data):
    import torch
    from torch import distributions as dist

    t = {name: torch.tensor(value) for name, value in data.items()}
    q = dist.Normal(t["mu"], t["log_sigma"].exp())
    prior = dist.Normal(torch.zeros_like(t["mu"]), 1.0)
    yield from densities(data, q, prior, dist.kl_divergence, dist.Bernoulli, t)

    def lse(a):
        return torch.logsumexp(a, 1)

    for name in BOUNDS:
        log_w = t["log_w"].clone().requires_grad_()
        value = value_of(torch, lse, name, log_w)
        (c,) = torch.autograd.grad(value.sum(), log_w, create_graph=True)
        dc = torch.zeros_like(log_w)
        for k in range(log_w.shape[1]):
            if c.requires_grad:
                one = torch.autograd.grad(c[:, k].sum(), log_w, retain_graph=True)
                dc[:, k] = one[0][:, k]
        yield from arrays_of_bound(data, name, value.detach(), c.detach(), dc)
    yield from model_gradients(torch, lse)


def densities(data, q, prior, kl, Bernoulli, t):
    ours = log_density(data["z"], data["mu"], data["log_sigma"])
    yield "Gaussian log-density", ours, q.log_prob(t["z"]).sum(-1)
    ours = kl_to_standard_normal(data["mu"], data["log_sigma"])
    yield "Gaussian KL", ours, kl(q, prior).sum(-1)
    theirs = Bernoulli(logits=t["logits"]).log_prob(t["x"]).sum(-1)
    yield "Bernoulli log-likelihood", bernoulli(data["x"], data["logits"]), theirs


def arrays_of_bound(data, name, value, c, dc):
    ours = mv.BOUNDS[name](data["log_w"], **OPTIONS.get(name, {}))
    for what, mine, theirs in zip(("value", "c", "dc"), ours, (value, c, dc)):
        if np.abs(mine).max() > 0:  # the ELBO's dc is zero
            yield f"{name}: {what}", mine, theirs


def model_gradients(torch, lse):
    """Log-weights, and the gradient of every parameter, of a model with one layer."""
    model, x, eps = small_model("numpy", (3,), ((5,),), k=6)
    p = {
        name: torch.tensor(array, requires_grad=True)
        for name, array in model.params.items()
    }

    def linear(name, a):
        return a @ p[f"{name}.W"] + p[f"{name}.b"]

    def log_weights():
        image, noise = torch.tensor(x)[:, None, :], torch.tensor(eps[0])
        h = torch.tanh(linear("q1.hidden1", image))
        q = torch.distributions.Normal(
            linear("q1.mu", h), linear("q1.log_sigma", h).exp()
        )
        z = q.loc + q.scale * noise
        logits = linear("p1.logits", torch.tanh(linear("p1.hidden1", z)))
        log_p = torch.distributions.Bernoulli(logits=logits).log_prob(
            image.expand(logits.shape)
        )
        prior = torch.distributions.Normal(torch.zeros_like(z), 1.0).log_prob(z)
        return log_p.sum(-1) + prior.sum(-1) - q.log_prob(z).sum(-1)

    yield "log-weights", model.log_weights(x, eps), log_weights().detach()
    for name in BOUNDS:
        _, grads = mv.bound_and_grad(model, x, eps, name, **OPTIONS.get(name, {}))
        value = value_of(torch, lse, name, log_weights()).mean()
        theirs = torch.autograd.grad(value, list(p.values()))
        flat = torch.cat([g.reshape(-1) for g in theirs])
        ours = np.concatenate([grads[n].ravel() for n in p])
        yield f"{name}: gradient of all parameters", ours, flat


def jax(data):
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def lse(a):
        return jax.nn.logsumexp(a, axis=1)

    for name in BOUNDS:

        def value(row, name=name):
            return value_of(jnp, lse, name, row[None])[0]

        log_w = jnp.asarray(data["log_w"])
        found = [jax.vmap(f)(log_w) for f in (value, jax.grad(value))]
        dc = jnp.diagonal(jax.vmap(jax.hessian(value))(log_w), axis1=1, axis2=2)
        yield from arrays_of_bound(data, name, *found, dc)


def numpyro(data):
    import jax

    jax.config.update("jax_enable_x64", True)
    from numpyro import distributions as dist

    q = dist.Normal(data["mu"], np.exp(data["log_sigma"]))
    prior = dist.Normal(np.zeros_like(data["mu"]), 1.0)
    yield from densities(data, q, prior, dist.kl_divergence, dist.Bernoulli, data)


def pyro(data):
    """Its RenyiELBO for a linear-Gaussian model, with the noise that it drew."""
    import pyro
    import torch
    from pyro import distributions as dist
    from pyro.infer import RenyiELBO

    mu0, s0 = torch.tensor(data["mu"]), torch.tensor(data["log_sigma"])
    x, K = torch.tensor(data["z"]), 6

    def model():
        with pyro.plate("images", 5):
            z = pyro.sample(
                "z", dist.Normal(torch.zeros(5, 3).double(), 1.0).to_event(1)
            )
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)
            drawn.append(z.detach().numpy())

    def guide():
        mu, log_sigma = (
            pyro.param("mu", mu0.clone()),
            pyro.param("log_sigma", s0.clone()),
        )
        with pyro.plate("images", 5):
            pyro.sample("z", dist.Normal(mu, log_sigma.exp()).to_event(1))

    for name, alpha in (("iwae", 0.0), ("vr", 0.4)):
        drawn = []
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        elbo = RenyiELBO(alpha=alpha, num_particles=K)
        value = -elbo.loss_and_grads(model, guide)
        z = np.stack(drawn, 1)  # (B, K, L)
        ours, dmu, dlog_sigma = linear_gaussian(data, z, name)
        yield f"{name}: RenyiELBO's value", [ours], [value]
        theirs = [-pyro.param(n).grad.numpy() for n in ("mu", "log_sigma")]
        yield f"{name}: RenyiELBO's gradient", [dmu, dlog_sigma], theirs


def linear_gaussian(data, z, name):
    """A bound, summed over images, and its plain gradient for x|z ~ N(z, 1)."""
    mu, log_sigma = data["mu"][:, None], data["log_sigma"][:, None]
    x = data["z"][:, None]
    eps = (z - mu) / np.exp(log_sigma)
    log_w = -((z**2 + (x - z) ** 2) / 2 + log(2 * pi) / 2 - log_sigma - eps**2 / 2).sum(
        2
    )
    value, c, _ = mv.BOUNDS[name](log_w, **OPTIONS.get(name, {}))
    dz = c[..., None] * (x - 2 * z)
    dlog_sigma = (dz * np.exp(log_sigma) * eps + c[..., None]).sum(1)
    return value.sum(), dz.sum(1), dlog_sigma


def pythae(data):
    """The gradient of its IWAE and CIWAE by each log-weight, which is c / B."""
    for name in ("iwae", "ciwae"):
        log_w, loss = pythae_loss(name.upper(), data["log_w"], beta=0.3)
        loss.backward()
        _, c, _ = mv.BOUNDS[name](log_w.detach().numpy(), **OPTIONS.get(name, {}))
        yield f"{name}: c", c, -len(c) * log_w.grad.numpy()


def pythae_loss(model, log_w, **settings):
    """Its loss for given log-weights (B, K) or (B, M, K), handed over as those of
    latent variables without a unit: the reconstruction is all there is.
    """
    import torch

    module = import_module(f"pythae.models.{model.lower()}.{model.lower()}_model")
    log_w = torch.tensor(log_w, requires_grad=True)
    *_, K = log_w.shape
    itself = types.SimpleNamespace(
        model_config=types.SimpleNamespace(reconstruction_loss="mse"),
        n_samples=K,
        gradient_n_estimates=log_w.shape[1],
        **settings,
    )
    # half the squared error of one pixel that is 0: -log_w
    recon = torch.sqrt(-2 * log_w)[..., None]
    none = torch.zeros(*log_w.shape, 0, dtype=torch.float64)
    x = torch.zeros(len(log_w), 1, dtype=torch.float64)
    loss = getattr(module, model).loss_function(itself, recon, x, none, none, none)
    return log_w, loss[0]


# What another one computes otherwise, each with its proof


def pythae_value(data):
    log_w, loss = pythae_loss("IWAE", data["log_w"])
    value, w_norm, _ = mv.BOUNDS["iwae"](data["log_w"])
    K = w_norm.shape[1]
    return {
        "library": "pythae",
        "what": "IWAE: the value of its loss is not the bound",
        "proof": "sum_k w~_k log w_k = log mean_k w_k + KL(w~, uniform), for"
        " log w_k = log w~_k + log(K mean w). So it is too high by up to log K and may"
        " exceed log p(x); the gradient is right, since w~ is detached.",
        "theirs": -loss.item(),
        "bound": float(value.mean()),
        "predicted": float((value + (w_norm * np.log(K * w_norm)).sum(1)).mean()),
    }


def pythae_axis(data):
    log_w = data["log_w"].reshape(5, 2, 3)  # M = 2 groups of K = 3
    given, loss = pythae_loss("MIWAE", log_w)
    loss.backward()
    theirs = -5 * given.grad.numpy()[0]
    groups = np.exp(log_w - log_w.max())
    right = (groups / groups.sum(2, keepdims=True) / 2)[0]
    swapped = (groups / groups.sum(1, keepdims=True) / 3)[0]
    return {
        "library": "pythae",
        "what": "MIWAE: normalised over the M groups, not over a group's K samples",
        "proof": "its log w is (B, M, K), and its softmax goes along axis 1. With M = 1"
        " every w~ is then 1 and c = 1/K: the ELBO, where MIWAE with M = 1 is the IWAE."
        " What it trains is MIWAE with M and K exchanged. Its PIWAE has the same line.",
        "theirs": theirs.round(4).tolist(),
        "c of MIWAE": right.round(4).tolist(),
        "predicted": swapped.round(4).tolist(),
    }


LIBRARIES = {"torch": torch, "jax": jax, "numpyro": numpyro, "pyro-ppl": pyro}
LIBRARIES["pythae"] = pythae
OTHERWISE = {"pythae": (pythae_value, pythae_axis)}


def measure():
    data = inputs()
    rows, otherwise, missing, versions = [], [], [], {}
    for library, compare in LIBRARIES.items():
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            missing.append(library)
            continue
        for what, ours, theirs in compare(data):
            found = difference(ours, theirs)
            rows.append({"library": library, "what": what, "difference": found})
        otherwise += [proof(data) for proof in OTHERWISE.get(library, ())]
    return {
        "versions": {**versions, "numpy": np.__version__, "minivae": mv.__version__},
        "missing": missing,
        "agree": rows,
        "otherwise": otherwise,
    }


def table(found):
    versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    lines = [
        "# Against other implementations",
        "",
        "The same numbers in float64, given to minivae and to others. A difference is",
        f"relative to the largest number compared; {ALLOWED:.0e} is allowed.",
        "",
        f"Versions: {versions}.",
    ]
    if found["missing"]:
        lines += ["", "Not installed: " + ", ".join(found["missing"]) + "."]
    lines += ["", "## What agrees", ""]
    libraries = [name for name in LIBRARIES if name in found["versions"]]
    lines += ["| | " + " | ".join(libraries) + " |"]
    lines += ["|---|" + "---|" * len(libraries)]
    cells = {
        (r["what"], r["library"]): f"{r['difference']:.0e}" for r in found["agree"]
    }
    for what in dict.fromkeys(row["what"] for row in found["agree"]):
        row = [cells.get((what, library), "") for library in libraries]
        lines += [f"| {what} | " + " | ".join(row) + " |"]
    lines += ["", "## What another one computes otherwise", ""]
    for case in found["otherwise"]:
        numbers = [
            f"* {name}: {value if isinstance(value, list) else round(value, 6)}"
            for name, value in case.items()
            if name not in ("library", "what", "proof")
        ]
        proof = case["proof"].replace("~", "\\~")
        lines += [f"### {case['library']}, {case['what']}", "", proof, "", *numbers, ""]
    lines += ["Written by `python benchmarks/against.py`.", ""]
    return "\n".join(lines)


def main():
    found = measure()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "against.json").write_text(
        json.dumps(found, indent=1) + "\n", encoding="utf-8"
    )
    (OUT / "against.md").write_text(table(found), encoding="utf-8")
    print(table(found))
    worst = max(row["difference"] for row in found["agree"])
    if worst > ALLOWED:
        sys.exit(f"the largest difference, {worst:.1e}, is more than {ALLOWED:.0e}")


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
