"""Training: minibatches, learning-rate stages, checkpoints, and runs that can be killed
and go on.

The order of epoch e comes from a generator made afresh from (seed, e), and every pixel
and eps is drawn by its place (`minivae.noise`). So a resumed run needs no generator's
state and ends bit for bit where an unbroken one does.
"""

import signal
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import noise
from .adam import Adam
from .checkpoint import (
    load_checkpoint,
    read_json,
    save_checkpoint,
    write_csv,
    write_json,
)
from .data import binarize
from .estimators import numbers_to_thin
from .gradient import check_backward, check_objective, walk
from .inputs import check_array, check_grey, check_seed, check_size, choose
from .kernels.device import queue, recorded
from .model import VAE, weigh

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
DECAY = 0.99  # of the running mean that estimator "score" has for a baseline
MOST_EPOCHS = 1_000_000
BINARIZATIONS = ("dynamic", "fixed", "none")


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
    binarization=None,
    backward="all",
    tau=0.1,
    seed=0,
    folder=None,
    data=None,
    test_images=None,
    progress=True,
    **options,
):
    """Train ``model`` in place; go on where ``folder`` holds a run with these settings.

    Parameters
    ----------
    model : VAE
    images : ndarray of shape (n, D)
        Grey values in [0, 1]; any real numbers for a Gaussian likelihood.
    bound, estimator, backward, tau
        As for `bound_and_grad`. The baseline of estimator "score" is a running mean of
        the bound, updated after each step.
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
        "dynamic": drawn at each use of an image; "fixed": drawn once; "none". Left out,
        "dynamic" for likelihood "bernoulli" and "none" for others.
    seed : int
        Of the order, the binarisation and eps.
    folder : path-like, optional
        Where config.json, metrics.csv and checkpoint.npz go, every epoch.
    data : str, optional
        The image set's name, for config.json.
    test_images : ndarray of shape (n, D), optional
        Adds the column ``test_bound``: the same bound on the first 1,000 of them after
        each epoch.
    progress : bool
        Show a bar with the bound and images/s. On a GPU the bound is known at the end
        of an epoch only, and the bar is of what has been queued.
    **options
        Of the bound and of the estimator, as for `bound_and_grad`.

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
    objective = check_objective(model, bound, estimator, **options)
    check_backward(bound, backward, tau, rng=True)
    if binarization is None:
        binarization = "dynamic" if model.likelihood == "bernoulli" else "none"
    choose("binarization", binarization, BINARIZATIONS)
    if binarization == "none" and model.likelihood == "bernoulli":
        raise ValueError("likelihood 'bernoulli' needs a binarization, not 'none'")
    images = check_images("images", images, model, binarization)
    if test_images is not None:
        test_images = test_images[:TEST_IMAGES]
        test_images = check_images("test_images", test_images, model, binarization)
    stages = [(epochs, learning_rate)] if stages is None else stages
    stages = [(check_size("epochs", n), float(rate)) for n, rate in stages]
    if not 0 < sum(n for n, _ in stages) <= MOST_EPOCHS:
        raise ValueError(f"epochs must be at most {MOST_EPOCHS:,} in all; got {stages}")
    rates = [rate for n, rate in stages for _ in range(n)]
    least = np.finfo(model.dtype).tiny  # what is less would be zero in this dtype
    if not all(0 < rate < np.inf for rate in rates) or not least <= epsilon < np.inf:
        raise ValueError(
            f"learning_rate and epsilon must be positive and finite; got {stages} and"
            f" {epsilon}"
        )
    batch, k = check_size("batch", batch), check_size("k", k)
    seed = check_seed("seed", seed)
    if objective is not None:
        bound_of, rows_of = objective
        # refuses options that do not go with k
        rows_of(bound_of, model.put(np.zeros((1, k))))
    config = {
        "model": model.config(),
        "bound": bound,
        "k": k,
        "estimator": estimator,
        "options": options,
        "backward": backward,
        "tau": float(tau),
        "stages": [list(stage) for stage in stages],
        "batch": batch,
        "epsilon": float(epsilon),
        "binarization": binarization,
        "seed": seed,
        "data": data,
        "images": len(images),
        "test_images": 0 if test_images is None else len(test_images),
    }
    adam = Adam(model.params, epsilon=epsilon, kernels=model.kernels)
    state = {"baseline": model.put(np.zeros(()))}  # what else the next step depends on
    done, history = 0, {}
    if folder is not None:
        folder = Path(folder)
        done, history = open_folder(folder, config, rates, model, adam, state)
    if binarization == "fixed":
        images = binarize(images, generator(seed, 0, 0))
    images = model.put(images)
    if test_images is not None:
        held_out = held_out_inputs(model, test_images, config)

    bar = tqdm(
        total=len(rates) * len(images),
        initial=done * len(images),
        unit="img",
        unit_scale=True,
        disable=not progress,
    )
    # NumPy need not warn: the first NaN or infinity is an error here, with more to say
    quiet = np.errstate(over="ignore", invalid="ignore")
    on_gpu = model.device == "cuda"
    queued = queue() if on_gpu else nullcontext()
    with queued, bar, quiet, interruptible() as interrupted:
        args = model, adam, state, images, config
        epoch_of = epochs_on_gpu(*args) if on_gpu else partial(run_epoch, *args)
        for epoch, rate in enumerate(rates[done:], start=done + 1):
            start, adam.learning_rate = time.perf_counter(), rate
            value = epoch_of(epoch, bar, interrupted)
            row = {"epoch": epoch, "learning_rate": rate, "bound": value}
            if test_images is not None:
                row["test_bound"] = held_out_bound(model, held_out, config)
            row["seconds"] = time.perf_counter() - start
            for column, entry in row.items():
                history.setdefault(column, []).append(entry)
            if folder is not None:
                path = folder / "checkpoint.npz"
                save_checkpoint(path, model.params, adam, state, epoch, history)
                write_csv(folder / "metrics.csv", history)
            if interrupted():
                raise KeyboardInterrupt(f"stopped after epoch {epoch}, which is kept")
    return Run(config, history, model, folder)


def run_epoch(model, adam, state, images, config, epoch, bar, interrupted):
    """One pass over the images; the mean of the bound, in nats."""
    order = model.put(generator(config["seed"], epoch, 0).permutation(len(images)))
    total = 0.0
    for step, rows in enumerate(steps_of(images, config), start=1):
        here = order[rows]
        value = run_step(model, adam, state, images, here, config, epoch, step)
        total += value * len(here)
        text = f"epoch {epoch}, {config['bound']} {value:.2f}"
        move_on(bar, text, epoch, rows, images, interrupted)
    if not np.isfinite(model.params.vector).all():
        raise nonfinite(epoch, step, model.params, value, {})
    return total / len(images)


def steps_of(images, config):
    """A slice of the epoch's order for each step."""
    n, batch = len(images), config["batch"]
    return [slice(i, min(i + batch, n)) for i in range(0, n, batch)]


def move_on(bar, text, epoch, rows, images, interrupted):
    """Show that a step is done, and stop there if Ctrl-C was pressed."""
    bar.set_postfix_str(text, refresh=False)
    bar.update(rows.stop - rows.start)
    if interrupted() and rows.stop < len(images):
        raise KeyboardInterrupt(
            f"stopped in epoch {epoch} after {rows.stop:,} of {len(images):,} images;"
            f" {epoch - 1} epochs are kept"
        )


def run_step(model, adam, state, images, here, config, epoch, step):
    """One step, along the gradient on the images numbered ``here``; the bound."""
    value, grads = gradient_of(model, adam, state, images, here, config, epoch, step)
    value = float(value)
    if not np.isfinite(value):
        raise nonfinite(epoch, step, model.params, value, grads)
    if not adam.step(grads):
        raise nonfinite(epoch, step, {}, value, grads)
    return value


def gradient_of(model, adam, state, images, here, config, epoch, step, room=None):
    """The mean bound of the images numbered ``here``, and its gradient."""
    options = config["options"]
    if config["estimator"] == "score":
        # eq. 17.5: the running mean, corrected like Adam's for having started at 0
        corrected = 1 - DECAY ** np.maximum(adam.t, 1)
        options = options | {"baseline": state["baseline"] / corrected}
    objective = check_objective(model, config["bound"], config["estimator"], **options)
    draw = partial(draw_inputs, model, images, here, config, epoch, step)
    how = objective, config["backward"], config["tau"], room
    values, grads = walk(model, len(here), config["k"], draw, *how)
    value = values.mean()
    state["baseline"][...] = DECAY * state["baseline"] + (1 - DECAY) * value
    return value, grads


def epochs_on_gpu(model, adam, state, images, config):
    """A function like `run_epoch`, whose host does not look at a number before the
    epoch ends: so it need not wait, and a step can be replayed as a CUDA graph.

    What a step depends on is on the device: the order, the epoch, the step's number. If
    at the end something is not finite, or more samples were kept than there was room
    for, the epoch is taken again from its start by `run_epoch`, which looks at every
    step.
    """
    batch, n, room = config["batch"], len(images), 1
    steps, rate = {}, None  # images of a step -> the step, recorded at this rate
    order, total = model.put(np.arange(n)), model.put(np.zeros(1))
    epoch_now, step_now = (model.put(np.zeros(1, np.int64)) for _ in range(2))
    restorable = [group.vector for group in (model.params, adam.m, adam.v)]
    restorable += [adam.t, state["baseline"]]

    def step_of(size):
        def step():
            here = order[step_now * batch + np.arange(size, like=order)]
            np.add(step_now, 1, out=step_now)
            place = epoch_now[0], step_now[0]
            args = model, adam, state, images, here, config, *place, room
            value, grads = gradient_of(*args)
            adam.step(grads)
            np.add(total, size * value, out=total)

        return recorded(step)

    def run(epoch, bar, interrupted):
        nonlocal room, rate
        if adam.learning_rate != rate:  # a step keeps what it was recorded with
            rate = adam.learning_rate
            steps.clear()
        before = [array.copy() for array in restorable]
        order[...] = model.put(generator(config["seed"], epoch, 0).permutation(n))
        epoch_now[...], step_now[...], total[...] = epoch, 0, 0
        for rows in steps_of(images, config):
            size = rows.stop - rows.start
            if size not in steps:
                steps[size] = step_of(size)
            steps[size]()
            move_on(bar, f"epoch {epoch}", epoch, rows, images, interrupted)
        value = float(total[0]) / n
        if np.isfinite(value) and np.isfinite(model.params.vector).all():
            return value
        for array, saved in zip(restorable, before):
            array[...] = saved
        room *= 2
        steps.clear()
        bar.update(-n)
        args = model, adam, state, images, config, epoch
        return run_epoch(*args, bar, interrupted)

    return run


def draw_inputs(model, images, here, config, epoch, step, share):
    """x, eps and the numbers for `thin` of a share of a minibatch's images."""
    place, kernels = (config["seed"], epoch, step), model.kernels
    x, k = images[here[share]], config["k"]
    if config["binarization"] == "dynamic":
        x = noise.binarize(*place, share, x, kernels)
    settings = share, k, model.latent_dims, model.dtype, kernels
    eps = noise.draw_eps(*place, *settings)
    shape = (numbers_to_thin(k, config["backward"]),)
    return x, eps, noise.uniform(*place, noise.THINNING, share, shape, kernels)


def load_run(folder, device="cpu"):
    """The run in ``folder``, as its last checkpoint left it.

    Parameters
    ----------
    folder : path-like
    device : str
        Where its model shall be, wherever it was trained.

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
    if not {"model", "bound", "k"} <= config.keys():
        raise ValueError(f"{folder / 'config.json'}: not a run's settings")
    try:  # the weights drawn here are overwritten next
        settings = dict(config["model"])
        if settings.get("device") != device:
            settings |= {"device": device, "kernels": None}
        model = VAE(**settings, rng=np.random.default_rng(0))
    except TypeError as error:
        raise ValueError(
            f"{folder / 'config.json'}: not a run's settings ({error!r})"
        ) from error
    _, history = load_checkpoint(folder / "checkpoint.npz", model.params)
    return Run(config, history, model, folder)


def open_folder(folder, config, rates, model, adam, state):
    """Make ``folder``, or take up the checkpoint of the run that is there.

    Its settings must be these. Only the stages may differ, as long as the epochs
    already done ran at these learning rates: so a run can be prolonged; and the device
    and its kernels, which differ by rounding.

    Returns
    -------
    done : int
        Epochs.
    history : dict
        Column -> list.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a run needs a folder, and this is none")
    folder.mkdir(parents=True, exist_ok=True)
    config_path, checkpoint_path = folder / "config.json", folder / "checkpoint.npz"
    done, history = 0, {}
    if checkpoint_path.exists():
        if not config_path.is_file():
            raise ValueError(f"{folder} holds a checkpoint without its config.json")
        there = read_json(config_path)
        was, now = ({**c.get("model", {}), **c, "model": None} for c in (there, config))
        other = [
            f"{key} was {was.get(key)!r}, is {value!r}"
            for key, value in now.items()
            if key not in ("stages", "device", "kernels") and was.get(key) != value
        ]
        if other:
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(other)}):"
                " choose another folder"
            )
        done, history = load_checkpoint(checkpoint_path, model.params, adam, state)
        if done > len(rates):
            raise ValueError(f"{folder} holds {done} epochs already, not {len(rates)}")
        if history["learning_rate"] != rates[:done]:
            raise ValueError(
                f"{folder} holds {done} epochs at other learning rates:"
                " choose another folder"
            )
        # a kill may have come between the checkpoint and this file
        write_csv(folder / "metrics.csv", history)
    write_json(config_path, config)
    return done, history


def generator(seed, *key):
    """A generator; ``key``, whole numbers, is a spawn key, which never collides."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def held_out_inputs(model, images, config):
    """x and eps of test images: one binarisation, and the same eps every time."""
    rng = generator(config["seed"], 0, 1)
    x = images if config["binarization"] == "none" else binarize(images, rng)
    eps = model.draw_eps(len(x), config["k"], rng)
    return model.put(x), [model.put(e) for e in eps]


def held_out_bound(model, inputs, config):
    """The training bound on test images."""
    bound = "elbo" if config["bound"] == "elbo_kl" else config["bound"]  # one mean
    names = bound, config["estimator"]
    bound_of, _ = check_objective(model, *names, **config["options"])
    return float(bound_of(weigh(model, *inputs))[0].mean())


def nonfinite(epoch, step, params, value, grads):
    """The `NonFiniteError` that names the first array in the order of the walk:
    parameters, the bound, gradients.
    """
    arrays = {f"parameter {name}": array for name, array in params.items()}
    arrays[f"the bound ({value})"] = value
    arrays |= {f"the gradient of {name}": array for name, array in grads.items()}
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    return NonFiniteError(
        f"epoch {epoch}, step {step}: NaN or infinity in {bad[0]};"
        " a lower learning rate may help"
    )


def check_images(name, images, model, binarization):
    """Grey values in [0, 1], or for a Gaussian likelihood any real numbers."""
    if binarization == "none" and model.likelihood == "gaussian":
        return check_array(name, images, (None, model.x_dim), model.dtype)
    return check_grey(name, images, model.x_dim, model.dtype)


@contextmanager
def interruptible():
    """Yield a function: was Ctrl-C pressed? A second press interrupts at once.

    An interrupt in the midst of a step may land in Numba's compiler and be lost there.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # signals are the main thread's
        return

    def handler(signum, frame):
        pressed.set()
        signal.signal(signal.SIGINT, before)
        print("\nstopping soon; Ctrl-C again stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
