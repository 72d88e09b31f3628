"""How far the NLL of k weights is from the truth, where the truth can be had: in models
of two latent units, by quadrature.
"""

from pathlib import Path

import numpy as np

from ..annealing import anneal
from ..data import binarize, load
from ..engine.files import write_json, write_text
from ..engine.report import say
from ..evaluation import evaluate
from ..model import VAE
from ..posterior import posteriors
from ..quadrature import log_px_on_a_grid
from ..results import standard_error
from ..training import train
from .common import read_rows

TRUTH_RUNS = {
    "VAE, k = 1": ("elbo", 1),
    "IWAE, k = 5": ("iwae", 5),
    "IWAE, k = 50": ("iwae", 50),
}
TRUTH_EPOCHS, TRUTH_RATE = 6, 3e-3  # few: the models are no better than they need be
TRUTH_IMAGES, TRUTH_WEIGHTS, TRUTH_DISTRIBUTIONS = 100, (1, 50, 5000), 200
PICTURED = 6
TRUTH_COLUMNS = {
    **{"model": str, "grid_nll": float, "grid_change": float, "grid_points": int},
    **{"weights": dict, "weights_se": float},
    **{"annealed": float, "annealed_se": float, "annealed_furthest": float},
    **{"gap": float, "gap_se": float, "acceptance": float},
}


def reproduce_truth(folder, progress=True):
    """NLL by weights and by annealing against quadrature, with two latent units.

    Trains a VAE and IWAEs on MNIST for `TRUTH_EPOCHS` epochs into ``folder``. Writes
    truth.json, table.md, and posteriors.png: p(z|x) and q(z|x) of six test images.

    Returns
    -------
    table : str
    """
    folder, data = Path(folder), load("mnist")
    path, models = folder / "truth.json", {}
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(path, TRUTH_COLUMNS)
    done = {row["model"] for row in rows}
    x = binarize(data.test_images[:TRUTH_IMAGES], np.random.default_rng(0))
    for label, (bound, k) in TRUTH_RUNS.items():
        say(f"{label}: {TRUTH_EPOCHS} epochs, then {TRUTH_IMAGES} test images")
        models[label] = VAE(
            784,
            (2,),
            ((200, 200),),
            rng=np.random.default_rng(0),
            x_mean=data.train_images.mean(axis=0),
        )
        train(
            models[label],
            data.train_images,
            bound,
            k,
            epochs=TRUTH_EPOCHS,
            learning_rate=TRUTH_RATE,
            schedule="cosine",
            folder=folder / f"{bound}-{k}",
            data="mnist",
            progress=progress,
        )
        if label not in done:
            rows.append({"model": label} | compare(models[label], x, progress))
            write_json(path, {"rows": rows})
    posteriors(models, x[:PICTURED], folder / "posteriors.png")
    table = truth_table(rows)
    write_text(folder / "table.md", table)
    return table


def compare(model, x, progress=True):
    """Each estimate's NLL less the grid's, in nats, and its standard error over images,
    in which the difficulty of an image cancels.
    """
    exact, change, points = log_px_on_a_grid(model, x)
    by_weights = evaluate(
        model, x, TRUTH_WEIGHTS[-1], bound_sizes=TRUTH_WEIGHTS, progress=progress
    )
    annealed = anneal(model, x, TRUTH_DISTRIBUTIONS, progress=progress)
    short = exact - annealed.log_px
    return {
        "images": len(x),
        "grid_nll": -float(exact.mean()),
        **{"grid_change": change, "grid_points": points},
        "weights": {
            str(k): float(exact.mean() - bound)
            for k, bound in by_weights.bounds.items()
        },
        "weights_se": standard_error(exact - by_weights.log_p),
        "annealed": float(short.mean()),
        "annealed_se": standard_error(short),
        "annealed_furthest": float(abs(short).max()),
        **{"gap": annealed.gap, "gap_se": annealed.gap_se},
        **{"acceptance": annealed.acceptance, "chains": annealed.chains},
    }


def truth_table(rows):
    """The differences, as Markdown."""
    lines = [
        f"Two latent units, {TRUTH_EPOCHS} epochs; the first {TRUTH_IMAGES} test"
        " images. Each estimate's NLL less that of quadrature, in nats, +- its standard"
        f" error over images; annealing with {TRUTH_DISTRIBUTIONS} distributions; the"
        " gap is upper less lower bound on simulated images",
        "",
        "| model | NLL, quadrature |"
        + "".join(f" k = {k:,} |" for k in TRUTH_WEIGHTS)
        + " annealing | worst image | gap |",
        "|---" * (5 + len(TRUTH_WEIGHTS)) + "|",
    ]
    for row in rows:
        shown = " | ".join(f"{off:+.3f}" for off in row["weights"].values())
        shown += f" +- {row['weights_se']:.3f}"
        shown += f" | {row['annealed']:+.3f} +- {row['annealed_se']:.3f}"
        lines.append(
            f"| {row['model']} | {row['grid_nll']:.3f} | {shown} |"
            f" {row['annealed_furthest']:.3f} | {row['gap']:+.4f} +-"
            f" {row['gap_se']:.4f} |"
        )
    return "\n".join(lines)
