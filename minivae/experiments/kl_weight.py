"""What a weight on the KL does, and warm-up and free bits (chapter 26)."""

from pathlib import Path

import numpy as np

from ..adam import Adam
from ..data import binarize, load
from ..engine.files import write_json, write_text
from ..engine.report import say
from ..evaluation import evaluate
from ..gaussian import kl_to_standard_normal_backward
from ..gradient import elbo_kl
from ..model import VAE
from ..networks import encoder_backward, encoder_forward
from ..plots import small_multiples
from .common import halved, read_rows

IMAGES, EPOCHS, BATCH, RATE, HIDDEN, LATENT = 5000, 16, 100, 3e-3, 50, 20
TEST_IMAGES, TEST_K = 200, 100
CURVES = {
    "reconstruction": "log p(x|z), nats",
    "kl": "KL, nats",
    "nll": "NLL, nats",
    "active_units": "active units",
}
COLUMNS = {"run": str} | dict.fromkeys(CURVES, list)

# Name -> epoch, the batch's mean KL of each unit (L,) -> the weights of the units' KL
RUNS = {
    "beta = 0.1": lambda epoch, kl: 0.1,
    "the ELBO": lambda epoch, kl: 1.0,
    "beta = 4": lambda epoch, kl: 4.0,
    "beta = 196": lambda epoch, kl: 196.0,
    "warm-up": lambda epoch, kl: min(1.0, epoch / 8),
    "free bits": lambda epoch, kl: kl > 0.5,
}


def weighted_gradient(model, x, eps, weight):
    """The gradient of log p(x|z) less the weighted KL of each unit, batch mean.

    Parameters
    ----------
    weight : callable
        The batch's mean KL of each unit (L,) -> its weight, a number or (L,).
    """
    grads, scale = model.params.zeros(), 1 / len(x)
    elbo_kl(model, x, eps, grads, scale)
    (mu, log_sigma), hs = encoder_forward(model, x)
    kl = (mu**2 + np.expm1(2 * log_sigma) - 2 * log_sigma) / 2  # (B, L)  eq. 5.5
    more = scale * (1 - np.float32(weight(kl.mean(axis=0))))  # eq. 26.2
    dkl = kl_to_standard_normal_backward(mu, log_sigma)
    encoder_backward(model, [more * d for d in dkl], hs, grads)
    return grads


def kl_weight_curves(weight, data):
    """Train by one of `RUNS`; what `evaluate` says of test images after each epoch."""
    rng, images = np.random.default_rng(0), halved(data.train_images[:IMAGES])
    sizes = images.shape[1], (LATENT,), ((HIDDEN, HIDDEN),)
    model = VAE(*sizes, rng=rng, x_mean=images.mean(axis=0))
    adam, curves = Adam(model.params, learning_rate=RATE), {name: [] for name in CURVES}
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        for first in range(0, len(images), BATCH):
            x = binarize(images[order[first : first + BATCH]], rng)
            eps = model.draw_eps(len(x), 1, rng)
            of_epoch = lambda kl, epoch=epoch: weight(epoch, kl)  # noqa: E731
            adam.step(weighted_gradient(model, x, eps, of_epoch))
        test = halved(data.test_images[:TEST_IMAGES])
        result = evaluate(model, test, TEST_K, progress=False)
        curves["reconstruction"].append(result.reconstruction)
        curves["kl"].append(result.kl)
        curves["nll"].append(result.nll)
        curves["active_units"].append(result.active_units[0])
    return curves


def reproduce_kl_weight(folder, progress=True):
    """What a weight on the KL does, and warm-up and free bits (chapter 26).

    Writes kl-weight.json, table.md and kl-weight.png into ``folder``.

    Returns
    -------
    table : str
    """
    folder, data = Path(folder), load("mnist")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kl-weight.json"
    rows = read_rows(path, COLUMNS)
    done = {row["run"] for row in rows}
    for name, weight in RUNS.items():
        if name not in done:
            say(name)
            rows.append({"run": name} | kl_weight_curves(weight, data))
            write_json(path, {"rows": rows})
    table = kl_table(rows)
    write_text(folder / "table.md", table)
    panels = {
        title: [(row["run"], row[name], {}) for row in rows]
        for name, title in CURVES.items()
    }
    small_multiples(panels, folder / "kl-weight.png", xlabel="epoch", ylabel="")
    return table


def kl_table(rows):
    """Where each run ends, as Markdown."""
    lines = [
        f"One layer, {HIDDEN}-{HIDDEN}-{LATENT}, on {IMAGES:,} images of MNIST at 14 x"
        f" 14, {EPOCHS} epochs at batch {BATCH}, Adam {RATE:g}; of {TEST_IMAGES}"
        f" test images, in nats, NLL with k = {TEST_K}",
        "",
        "| objective | log p(x given z) | KL | ELBO | NLL | active units |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        reconstruction, kl, nll, active = (row[name][-1] for name in CURVES)
        lines.append(
            f"| {row['run']} | {reconstruction:.1f} | {kl:.1f} |"
            f" {reconstruction - kl:.1f} | {nll:.1f} | {active} of {LATENT} |"
        )
    return "\n".join(lines)
