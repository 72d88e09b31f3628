"""Training: minibatches, learning-rate stages, checkpoints, and runs that can be killed
and go on.

All randomness of epoch e comes from generators made afresh from (seed, e, step): step 0
orders the images, steps 1, 2, ... binarize and draw eps. So a resumed run needs no
generator state and ends bit for bit where an unbroken one does.
"""

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .adam import Adam
from .bounds import BOUNDS
from .checkpoint import (
    load_checkpoint,
    read_json,
    save_checkpoint,
    write_csv,
    write_json,
)
from .data import binarize
from .gradient import bound_and_grad, check_objective
from .inputs import check_grey, check_size, choose
from .model import VAE

# The paper's protocol (Burda et al. 2016, section 5): 3^i epochs at 1e-3 * 10^(-i/7).
# Its epsilon of 1e-4 acted on gradients summed over a batch of 20; ours are means, for
# which the same step has 1e-4 / 20.
PRESETS = {
    "burda": {
        "batch": 20,
        "epsilon": 5e-6,
        "stages": [(3**i, 1e-3 * 10 ** (-i / 7)) for i in range(8)],
    },
    "short": {
        "batch": 20,
        "epsilon": 5e-6,
        "stages": [(3**i, 1e-3 * 10 ** (-i / 4)) for i in range(5)],
    },
}
TEST_IMAGES = 1000  # the history's test_bound is measured on the first so many


@dataclass
class Run:
    """A run: its settings, its history (column -> entry per epoch) and its model."""

    config: dict
    history: dict
    model: VAE
    folder: Path | None


class NonFiniteError(ArithmeticError):
    """The first NaN or infinity of a run: its epoch, its step, and in which array."""


def train(
    model,
    images,
    bound="iwae",
    k=50,
    estimator="reparam",
    *,
    epochs=20,
    batch=100,
    learning_rate=1e-3,
    epsilon=1e-8,
    stages=None,
    binarization="dynamic",
    seed=0,
    folder=None,
    test_images=None,
    progress=True,
):
    """Train ``model`` in place; go on where ``folder`` holds a run with these settings.

    Parameters
    ----------
    model : VAE
    images : ndarray of shape (n, D)
        Grey values in [0, 1].
    bound, estimator : str
        As for `bound_and_grad`.
    k : int
        Samples per image.
    epochs, learning_rate : int, float
        One stage. ``stages``, a list of (epochs, learning rate), takes their place;
        `PRESETS` holds the paper's.
    batch : int
        Images per step; the last step of an epoch may have fewer.
    epsilon : float
        Adam's.
    binarization : str
        "dynamic": drawn at each use of an image; "fixed": drawn once.
    seed : int
        Of the order, the binarisation and eps.
    folder : path-like, optional
        Where config.json, metrics.csv and checkpoint.npz go, every epoch.
    test_images : ndarray of shape (n, D), optional
        Adds the column ``test_bound``: the same bound on the first 1,000 of them after
        each epoch.
    progress : bool
        Show a bar with the bound and images/s.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        For settings out of range, and if ``folder`` holds a run with other settings.
    NonFiniteError
        At the first NaN or infinity; the last good checkpoint stays.
    KeyboardInterrupt
        After Ctrl-C, once the step is done; the last epoch's checkpoint stays.
    """
    check_objective(model, bound, estimator)
    choose("binarization", binarization, ("dynamic", "fixed"))
    images = check_grey("images", images, model.x_dim, model.dtype)
    if test_images is not None:
        test_images = test_images[:TEST_IMAGES]
        test_images = check_grey("test_images", test_images, model.x_dim, model.dtype)
    stages = [(epochs, learning_rate)] if stages is None else stages
    rates = [rate for n, rate in stages for _ in range(check_size("epochs", n))]
    if not all(0 < rate < np.inf for rate in [*rates, epsilon]):
        raise ValueError(
            f"learning_rate and epsilon must be positive; got {stages} and {epsilon}"
        )
    batch, k = check_size("batch", batch), check_size("k", k)
    generator(seed, 0, 0)  # refuses what cannot be a seed
    config = {
        "model": model.config(),
        "bound": bound,
        "k": k,
        "estimator": estimator,
        "stages": [list(stage) for stage in stages],
        "batch": batch,
        "epsilon": epsilon,
        "binarization": binarization,
        "seed": seed,
        "images": len(images),
        "test_images": 0 if test_images is None else len(test_images),
    }
    adam = Adam(model.params, epsilon=epsilon, kernels=model.kernels)
    done, history = 0, {}
    if folder is not None:
        folder = Path(folder)
        done, history = open_folder(folder, config, rates, model, adam)
    if binarization == "fixed":
        images = binarize(images, generator(seed, 0, 0))

    bar = tqdm(
        total=len(rates) * len(images),
        initial=done * len(images),
        unit="img",
        unit_scale=True,
        disable=not progress,
    )
    # NumPy need not warn: the first NaN or infinity is an error here, with more to say
    quiet = np.errstate(over="ignore", invalid="ignore")
    with bar, quiet, interruptible() as interrupted:
        for epoch, rate in enumerate(rates[done:], start=done + 1):
            start, adam.learning_rate = time.perf_counter(), rate
            value = run_epoch(model, adam, images, config, epoch, bar, interrupted)
            row = {"epoch": epoch, "learning_rate": rate, "bound": value}
            if test_images is not None:
                row["test_bound"] = held_out_bound(model, test_images, bound, k, seed)
            row["seconds"] = time.perf_counter() - start
            for column, entry in row.items():
                history.setdefault(column, []).append(entry)
            if folder is not None:
                path = folder / "checkpoint.npz"
                save_checkpoint(path, model.params, adam, epoch, history)
                write_csv(folder / "metrics.csv", history)
    return Run(config, history, model, folder)


def run_epoch(model, adam, images, config, epoch, bar, interrupted):
    """One pass over the images; the mean of the bound, in nats."""
    bound, seed, batch = config["bound"], config["seed"], config["batch"]
    order = generator(seed, epoch, 0).permutation(len(images))
    steps, total = range(1, ceil(len(images) / batch) + 1), 0.0
    for step in steps:
        rng = generator(seed, epoch, step)
        x = images[order[(step - 1) * batch : step * batch]]
        if config["binarization"] == "dynamic":
            x = binarize(x, rng)
        eps = model.draw_eps(len(x), config["k"], rng)
        value, grads = bound_and_grad(model, x, eps, bound, config["estimator"])
        where = f"epoch {epoch}, step {step}"
        refuse_nonfinite(where, model.params, value, grads, suspects=grads)
        adam.step(grads)
        total += value * len(x)
        bar.set_postfix_str(f"epoch {epoch}, {bound} {value:.2f}", refresh=False)
        bar.update(len(x))
        if interrupted():
            raise KeyboardInterrupt(
                f"stopped in epoch {epoch} after step {step} of {len(steps)};"
                f" {epoch - 1} epochs are kept"
            )
    refuse_nonfinite(where, model.params, value, grads, suspects=model.params)
    return total / len(images)


def load_run(folder):
    """The run in ``folder``, as its last checkpoint left it.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no run, or its files are damaged.
    """
    folder = Path(folder)
    if not (folder / "checkpoint.npz").is_file():
        raise FileNotFoundError(
            f"{folder}: no run with a checkpoint is here;"
            f" `minivae train --out {folder}` makes one"
        )
    config = read_json(folder / "config.json")
    try:  # the weights drawn here are overwritten next
        model = VAE(**config["model"], rng=np.random.default_rng(0))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'config.json'}: not a run's settings ({error!r})"
        ) from error
    _, history = load_checkpoint(folder / "checkpoint.npz", model.params)
    return Run(config, history, model, folder)


def open_folder(folder, config, rates, model, adam):
    """Make ``folder``, or take up the checkpoint of the run that is there.

    Its settings must be these. Only the stages may differ, as long as the epochs
    already done ran at these learning rates: so a run can be prolonged.

    Returns
    -------
    done : int
        Epochs.
    history : dict
        Column -> list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config_path, checkpoint_path = folder / "config.json", folder / "checkpoint.npz"
    if config_path.is_file():
        there = read_json(config_path)
        if not isinstance(there, dict):
            raise ValueError(f"{config_path}: not a run's settings")
        other = [
            f"{key} was {there.get(key)!r}, is {value!r}"
            for key, value in config.items()
            if key != "stages" and there.get(key) != value
        ]
        if other:
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(other)}):"
                " choose another folder"
            )
    done, history = 0, {}
    if checkpoint_path.is_file():
        done, history = load_checkpoint(checkpoint_path, model.params, adam)
        if history["learning_rate"] != rates[:done]:
            raise ValueError(
                f"{folder} holds {done} epochs at other learning rates:"
                " choose another folder"
            )
        # a kill may have come between the checkpoint and this file
        write_csv(folder / "metrics.csv", history)
    write_json(config_path, config)
    return done, history


def generator(seed, epoch, step):
    """The generator of one step; (epoch, step) is a spawn key, which never collides."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, step)))


def held_out_bound(model, images, bound, k, seed):
    """The training bound on test images: one binarisation, the same eps every time."""
    rng = generator(seed, 0, 1)
    x = binarize(images, rng)
    log_w = model.log_weights(x, model.draw_eps(len(x), k, rng))
    bound_of = BOUNDS["elbo" if bound == "elbo_kl" else bound]  # both have one mean
    return float(bound_of(log_w, kernels=model.kernels)[0].mean())


def refuse_nonfinite(where, params, value, grads, suspects):
    """Raise `NonFiniteError` if the bound or one of the ``suspects`` is not finite.

    The array that it names is the first in the order of the walk: parameters, the
    bound, gradients.
    """
    squares = [np.vdot(array, array) for array in suspects.values()]
    if np.isfinite([value, *squares]).all():
        return
    arrays = {f"parameter {name}": array for name, array in params.items()}
    arrays[f"the bound ({value})"] = value
    arrays |= {f"the gradient of {name}": array for name, array in grads.items()}
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:  # there is none where only a square overflowed
        raise NonFiniteError(f"{where}: NaN or infinity in {bad[0]}")


@contextmanager
def interruptible():
    """Yield a function: was Ctrl-C pressed? A second press interrupts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # signals are the main thread's
        return

    def handler(signum, frame):
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
