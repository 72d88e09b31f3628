"""A better model, or a better q? The encoder of a trained model is fitted anew, by
another bound, while the decoder stays as it is.

An estimator is three rows of coefficients (chapter 10), and the decoder's is theta:
an estimator whose theta is zero trains q alone. Adam's step along a gradient that has
always been zero is zero, so the decoder's parameters keep their last bit.
"""

from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np

from ..engine.files import write_json, write_text
from ..engine.registry import ESTIMATORS, register_estimator
from ..engine.report import say
from ..estimators import dreg
from ..evaluation import images_seen
from ..runs import load_images, load_run
from ..training import train
from .common import evaluated

REFITS = {"ELBO": ("elbo", 1), "IWAE, k = 50": ("iwae", 50)}
REFIT_EPOCHS, REFIT_RATE = 20, 1e-3
REFIT_IMAGES, REFIT_WEIGHTS = 1000, 5000


def reproduce_refit(folder, run, data_path=None, progress=True):
    """The bounds of the run in the folder ``run`` under q as it is, and refitted.

    By either bound of `REFITS`: one of them is near to what q was trained by, and is
    the control. Each refit is a run's folder in ``folder``, and resumes. Writes
    refit.json and refit.md.

    Returns
    -------
    table : str
    """
    folder, loaded = Path(folder), load_run(run)
    data = load_images(loaded, data_path)
    models = {"as trained": loaded.model}
    for label, (bound, k) in REFITS.items():
        say(f"q refitted by the {label}, {REFIT_EPOCHS} epochs")
        models[label] = refit_encoder(
            loaded.model,
            data.train_images,
            bound,
            k,
            folder=folder / f"{bound}-{k}",
            data=data,
            progress=progress,
        ).model
    rows, results = [], []
    kept = [folder / f"q{i}.part.npz" for i in range(len(models))]
    images = images_seen(loaded.model, data.test_images[:REFIT_IMAGES], 0)
    for path, (label, model) in zip(kept, models.items()):
        if decoder_of(model) != decoder_of(loaded.model):
            raise ValueError(
                f"{folder} holds refits of another decoder, as of {run} when it had"
                " fewer epochs: choose another --out"
            )
        results.append(evaluated(path, model, images, REFIT_WEIGHTS, progress))
        change, change_se = results[-1].paired_difference(results[0])
        difference = {"difference": change, "difference_se": change_se}
        rows.append({"q": label, **results[-1].summary(), **difference})
    write_json(folder / "refit.json", {"rows": rows})
    label = f"{loaded.config['bound']}, k = {loaded.config['k']}"
    table = refit_table(label, rows)
    write_text(folder / "refit.md", table)
    for path in kept:
        path.unlink(missing_ok=True)
    return table


def decoder_of(model):
    """Its parameters, as bytes."""
    return [p.tobytes() for name, p in model.params.items() if name.startswith("p")]


def refit_encoder(model, images, bound, k, **settings):
    """Train a copy of ``model`` whose decoder stays as it is; a `Run`.

    Parameters
    ----------
    model, images, bound, k, **settings
        As for `minivae.train`; left out, `REFIT_EPOCHS` epochs with a cosine from
        `REFIT_RATE`. The estimator is `dreg` without its row theta.
    """
    left_out = {"epochs": REFIT_EPOCHS, "learning_rate": REFIT_RATE}
    settings = left_out | {"schedule": "cosine"} | settings
    with encoder_alone() as estimator:
        return train(deepcopy(model), images, bound, k, estimator, **settings)


@contextmanager
def encoder_alone():
    """The name of an estimator that exists within: `dreg` with theta = 0."""
    name = "dreg-encoder-alone"

    @register_estimator(name)
    def encoder_dreg(bound, log_w):
        value, theta, path, score = dreg(bound, log_w)
        return value, np.zeros_like(theta), path, score

    try:
        yield name
    finally:
        del ESTIMATORS[name]


def refit_table(label, rows):
    """The bounds by encoder, as Markdown."""
    lines = [
        f"The model {label}, its encoder as trained and refitted for {REFIT_EPOCHS}"
        f" epochs, the decoder unchanged; {rows[0]['images']:,} test images",
        "",
        "| q | ELBO | bound, k = 50 | NLL | s.e. | less that as trained | s.e. |"
        " active units of q |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bounds = [row["bounds"].get(k, float("nan")) for k in ("1", "50")]
        elbo, fifty = (f"{bound:.2f}" for bound in bounds)
        lines.append(
            f"| {row['q']} | {elbo} | {fifty} | {row['nll']:.2f} |"
            f" {row['nll_se'] or np.nan:.2f} | {row['difference']:+.2f} |"
            f" {row['difference_se']:.2f} | {row['active_units']} |"
        )
    return "\n".join(lines)
