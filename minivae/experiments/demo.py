"""The demo: a VAE and an IWAE on MNIST in minutes."""

import time

import numpy as np

from .. import plots
from ..data import load
from ..engine.files import write_text
from ..engine.report import say
from ..evaluation import evaluate
from ..model import VAE
from ..training import train

RUNS = {"VAE (k = 1)": ("elbo", 1), "IWAE (k = 5)": ("iwae", 5)}
EPOCHS, BATCH, RATE, IMAGES = 10, 50, 4e-3, 300
# Where a gradient is noise alone, Adam's step is as large as elsewhere, and moves units
# that nothing needs; an epsilon above the noise lets them settle in few epochs
EPSILON = 3e-4


def demo(folder):
    """Train a VAE and an IWAE on MNIST, and compare them in a table and pictures.

    Returns
    -------
    table : str
    """
    data = load("mnist")
    histories, evaluations, lines = {}, {}, []
    for label, (bound, k) in RUNS.items():
        say(f"{label}: {EPOCHS} epochs, then {IMAGES} test images")
        run_folder, rng = folder / f"{bound}-{k}", np.random.default_rng(0)
        model = VAE(784, rng=rng, x_mean=data.train_images.mean(axis=0))
        history = train(
            model,
            data.train_images,
            bound,
            k,
            "dreg",
            epochs=EPOCHS,
            batch=BATCH,
            learning_rate=RATE,
            epsilon=EPSILON,
            schedule="cosine",
            folder=run_folder,
            data=data,
            test_images=data.test_images,
        ).history
        plots.draw_model(model, data.test_images, run_folder / "figures")
        start, partial = time.perf_counter(), run_folder / "evaluation.partial.npz"
        result = evaluate(model, data.test_images[:IMAGES], partial=partial)
        histories[label], evaluations[label] = history, result
        lines.append(
            f"| {label} | {result.bounds[k]:.2f} | {result.nll:.2f} |"
            f" {result.active_units[0]} of 50 | {sum(history['seconds']):.0f} |"
            f" {time.perf_counter() - start:.0f} |"
        )
    plots.learning_curves(histories, folder / "learning_curves.png")
    plots.draw_evaluations(evaluations, folder)
    vae, iwae = evaluations.values()
    table = "\n".join(
        [
            f"MNIST, 784-200-200-50, {EPOCHS} epochs at batch {BATCH}, estimator dreg,"
            f" Adam with a cosine from {RATE:g} to zero and epsilon {EPSILON:g}; on the"
            f" first {IMAGES} test images, NLL with k = 5000",
            "",
            "| model | its bound, nats | NLL, nats | active units |"
            " training, s | evaluation, s |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
            f"The IWAE's NLL is {abs(vae.nll - iwae.nll):.2f} nats"
            f" {'lower' if iwae.nll < vae.nll else 'HIGHER'} than the VAE's, and it"
            f" uses {iwae.active_units[0]} latent units where the VAE uses"
            f" {vae.active_units[0]}.",
        ]
    )
    write_text(folder / "table.md", table)
    return table
