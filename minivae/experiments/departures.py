"""What the code of Burda et al. does otherwise than their text, one thing at a time.

The text is the preset burda (chapter 30). The code: github.com/yburda/iwae. It also
adds Adam's epsilon before the bias correction, which is left out here: only the first
thousands of steps are others by that.
"""

from pathlib import Path

import numpy as np

from ..adam import Adam
from ..data import load
from ..engine import noise
from ..engine.files import write_json, write_text
from ..engine.objective import resolve
from ..engine.report import progress_bar, say
from ..evaluation import evaluate
from ..kernels.compile import jit
from ..layers import glorot_uniform
from ..model import VAE
from ..presets import PRESETS
from ..settings import check_settings
from ..training import Training, run_epoch
from .common import read_rows

STAGES = PRESETS["burda"]["stages"][:5]  # 121 of the 3,280 epochs
VALIDATION, WEIGHTS, SEED, LAST = 10_000, 500, 0, 10
COLUMNS = {"departure": str, "bound": float, "nll": float, "active_units": int}
# one is not the code's: how its epsilon, which is for a sum, can be misread
DEPARTURES = {
    "none": {},
    "Adam of the code": {"beta1": 0.99, "v": 1.0, "stale": True},
    "images never reshuffled": {"reshuffled": False},
    "matrices of one shape start alike": {"alike": True},
    "epsilon of 1e-4 for the mean gradient": {"epsilon": 1e-4},
    "beta_1 of 0.99": {"beta1": 0.99},
}


def reproduce_departures(folder, progress=True):
    """The one-layer VAE of MNIST, k = 1, by the first stages of the preset burda, with
    one departure of `DEPARTURES` at a time.

    Trained on all but the last 10,000 training images, and measured on those. After
    Ctrl-C what is done of departures.json is kept, to the departure.

    Returns
    -------
    table : str
    """
    folder, data = Path(folder), load("mnist", validation=VALIDATION)
    path = folder / "departures.json"
    rows = read_rows(path, COLUMNS)
    done = {row["departure"] for row in rows}
    for departure in [name for name in DEPARTURES if name not in done]:
        row = {"departure": departure} | measured(departure, data, progress)
        say(f"{departure}: {row['nll']:.2f}")
        rows = [*rows, row]
        write_json(path, {"rows": rows})
    table = departures_table(rows)
    write_text(folder / "table.md", table)
    return table


def measured(departure, data, progress):
    """Train a model, and measure it: a row without its name."""
    model, bounds = trained(departure, data.train_images, progress)
    result = evaluate(model, data.validation_images, WEIGHTS, progress=progress)
    return {
        "bound": float(np.mean(bounds[-LAST:])),
        "nll": result.nll,
        "active_units": result.active_units[0],
    }


@np.errstate(over="ignore", invalid="ignore")  # said by an error, with more to say
def trained(departure, images, progress):
    """The model, and the mean bound of each epoch."""
    changes, preset = DEPARTURES[departure], PRESETS["burda"]
    model = VAE(784, rng=np.random.default_rng(SEED), x_mean=images.mean(axis=0))
    if changes.get("alike"):
        start_alike(model)
    settings = check_settings(
        model,
        **{"bound": "elbo", "k": 1, "estimator": "reparam", "options": {}},
        **{"backward": "all", "tau": 0.1, "schedule": "constant", "average": None},
        **{"epochs": None, "learning_rate": None, "stages": STAGES},
        **{"batch": preset["batch"], "binarization": None, "seed": SEED},
        epsilon=changes.get("epsilon", preset["epsilon"]),
    )
    adam = (StaleAdam if changes.get("stale") else Adam)(
        model.params, beta1=changes.get("beta1", 0.9), epsilon=settings.epsilon
    )
    # of a sum over the batch, where ours is of a mean
    adam.v.vector[...] = changes.get("v", 0.0) / settings.batch**2
    objective = resolve(model, 1, "elbo", "reparam", {})
    training = Training(model, images, settings, objective, adam, state={})
    epochs, bounds = range(1, 1 + len(settings.peaks)), []
    for epoch in progress_bar(epochs, desc=departure, unit="epoch", show=progress):
        if not changes.get("reshuffled", True):
            # laid so that this epoch's order leads to that of the first; the code takes
            # the images as they lie in the file, which is one order, too
            first, order = (
                noise.generator(SEED, e, 0).permutation(len(images)) for e in (1, epoch)
            )
            training.images = np.empty_like(images)
            training.images[order] = images[first]
        rates = settings.learning_rate(epoch, np.arange(training.steps), training.steps)
        bounds.append(run_epoch(training, epoch, rates, lambda *step: None))
    return model, bounds


def start_alike(model):
    """Draw each matrix with the same seed: those of one shape are the same."""
    for name, W in model.params.items():
        if name.endswith(".W"):
            W[...] = glorot_uniform(*W.shape, np.random.default_rng(SEED), W.dtype)


class StaleAdam(Adam):
    """Adam that takes each step with the moments from before their update."""

    def step(self, grads):
        self.t += 1
        scale = np.sqrt(1 - self.beta2**self.t)  # eq. 11.3, folded into two numbers
        rate = self.learning_rate * scale / (1 - self.beta1**self.t)
        numbers = rate, self.beta1, self.beta2, self.epsilon * scale
        vectors = self.params.vector, grads.vector, self.m.vector, self.v.vector
        step_before_update(*vectors, *map(vectors[0].dtype.type, numbers))
        return True


@jit
def step_before_update(p, g, m, v, rate, beta1, beta2, epsilon):
    """`minivae.kernels.adam.adam_numba`, with its last line first."""
    zero, one, tiny = p.dtype.type(0), p.dtype.type(1), np.finfo(p.dtype).tiny
    for i in range(p.size):
        p[i] += rate * m[i] / (np.sqrt(v[i]) + epsilon)
        mean = beta1 * m[i] + (one - beta1) * g[i]
        square = beta2 * v[i] + (one - beta2) * g[i] * g[i]
        m[i] = zero if abs(mean) < tiny else mean
        v[i] = zero if square < tiny else square


def departures_table(rows):
    """A row for each departure, as Markdown."""
    epochs = sum(epochs for epochs, _ in STAGES)
    lines = [
        f"VAE, k = 1, the first {epochs} epochs of the preset burda; the bound is that"
        f" of the last {LAST} epochs in training, the NLL that of the {VALIDATION:,}"
        f" validation images with {WEIGHTS} weights",
        "",
        "| departure | bound | NLL | less none | active units |",
        "|---|---|---|---|---|",
    ]
    by_name = {row["departure"]: row for row in rows}
    for name in DEPARTURES:
        row = by_name[name]
        less = row["nll"] - by_name["none"]["nll"]
        lines.append(
            f"| {name} | {row['bound']:.2f} | {row['nll']:.2f} | {less:+.2f} |"
            f" {row['active_units']} |"
        )
    return "\n".join(lines)
