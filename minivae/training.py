"""Training: batches, learning-rate stages, checkpoints, and runs that can be killed and
resumed.

The order of epoch e comes from a generator made afresh from (seed, e), and every pixel
and eps is drawn by its counter (`minivae.engine.noise`). So a resumed run needs no
generator's state and ends bit for bit where an unbroken one does.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .adam import Adam
from .data import Dataset, binarize, source_of
from .engine import noise
from .engine.batching import sum_gradients
from .engine.checks import check_images, check_range
from .engine.digest import digest_of_images
from .engine.gpu import epochs_on_gpu
from .engine.interrupt import NOTHING_KEPT, interruptible
from .engine.lock import writing_in
from .engine.memory import check_memory
from .engine.objective import Objective, resolve
from .engine.recording import queue
from .engine.report import progress_bar, say_without_bar
from .engine.run_folder import open_folder, save_epoch
from .engine.threads import count
from .gradient import add_gradient
from .model import VAE, bound_of, row_bytes
from .runs import Run, corrected_average, initial_state
from .settings import Settings, check_settings
from .subsampling import kept_rows

TEST_IMAGES = 1000  # the history's test_bound is measured on the first so many
BASELINE_DECAY = 0.99  # of the running mean that estimator "score" has for a baseline


class NonFiniteError(ArithmeticError):
    """The first NaN or infinity of a run: its epoch, its step, and in which array."""


@dataclass
class Training:
    """What a step reads and changes."""

    model: VAE
    images: np.ndarray  # (n, D), on the model's device
    settings: Settings
    objective: Objective
    adam: Adam
    state: dict  # what a checkpoint holds besides parameters and Adam's moments

    @property
    def steps(self):
        """How many steps an epoch has."""
        return ceil(len(self.images) / self.settings.batch)


def train(
    model: VAE,
    images: ArrayLike,
    bound: str = "iwae",
    k: int = 50,
    estimator: str = "reparam",
    *,
    epochs: int = 20,
    batch: int = 100,
    learning_rate: float = 1e-3,
    epsilon: float = 1e-8,
    stages: list[tuple[int, float]] | None = None,
    schedule: str = "constant",
    average: float | None = None,
    binarization: str | None = None,
    backward: str = "all",
    tau: float = 0.1,
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    data: str | os.PathLike | Dataset | None = None,
    test_images: ArrayLike | None = None,
    validation_images: ArrayLike | None = None,
    callback: Callable[[Run], bool | None] | None = None,
    progress: bool = True,
    **options,
) -> Run:
    """Train ``model`` in place; resume the run that ``folder`` holds, if it does.

    Parameters
    ----------
    model : VAE
        Of a run that was loaded, its parameters are where this one starts, with a fresh
        Adam: so the objective is switched. config.json has that run as the origin.
    images : ndarray of shape (n, D)
        Grey values in [0, 1], or bytes from 0 to 255; any real numbers for a Gaussian
        likelihood.
    bound, estimator, backward, tau
        As for `bound_and_grad`. The baseline of estimator "score" is a running mean of
        the bound, updated after each step.
    k : int
        Samples per image.
    epochs, learning_rate : int, float
        One stage. ``stages``, a list of (epochs, learning rate), takes their place;
        `PRESETS` holds the paper's.
    schedule : str
        "constant": each stage's learning rate as it is. "cosine": times half a wave of
        the cosine, from one at the first step to zero after the last.
    average : float, optional
        The decay of a running average of the parameters, such as 0.999:
        `Run.averaged` gives its model.
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
    data : str, path-like or Dataset, optional
        Where ``images`` come from, for config.json: what `minivae.load` takes, or what
        it returned. `load_images` finds them by it.
    test_images, validation_images : ndarray of shape (n, D), optional
        Adds the column ``test_bound``, or ``validation_bound``: the same bound on the
        first 1,000 of them after each epoch.
    callback : callable, optional
        Called with the `Run` after each epoch, which is saved by then; where it returns
        True, the run ends there. The same call without it goes on.
    progress : bool
        Show a bar with the bound and images/s, in a terminal; elsewhere a line an
        epoch. On a GPU the bound is known at the end of an epoch only, and the bar is
        of what has been queued.
    **options
        Of the bound and of the estimator, as for `bound_and_grad`.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        For settings out of range, and if ``folder`` holds a run with other settings or
        on other images.
    BlockingIOError
        If another run is writing in ``folder``.
    NonFiniteError
        At the first NaN or infinity; the last good checkpoint stays.
    KeyboardInterrupt
        After Ctrl-C, once the step is done; the last epoch's checkpoint stays. Its
        attribute ``run`` is the `Run` so far: whole epochs in the history, and the
        model as the last step left it.
    """
    settings = check_settings(
        model,
        bound=bound,
        k=k,
        estimator=estimator,
        options=options,
        backward=backward,
        tau=tau,
        epochs=epochs,
        learning_rate=learning_rate,
        stages=stages,
        schedule=schedule,
        average=average,
        batch=batch,
        epsilon=epsilon,
        binarization=binarization,
        seed=seed,
    )
    given = {"test": test_images, "validation": validation_images}
    given = {name: x for name, x in given.items() if x is not None}
    # of a sample: a forward, a backward, what is between them, and its coefficients
    size = settings.k * (3 * row_bytes(model) + 12 * 8)
    check_memory(f"a step with k = {settings.k:,}", size, "k")
    how = {"backward": backward, "tau": settings.tau}
    objective = resolve(model, settings.k, bound, estimator, options, **how)
    if (bound, backward) == ("elbo", "sparse"):
        warnings.warn(
            "the samples of bound 'elbo' count alike, so backward 'sparse' keeps some"
            " by chance alone, for more noise: 'all' is its choice",
            stacklevel=2,
        )
    if "baseline" in options:
        raise ValueError("train keeps a running mean for a baseline: leave it out")
    settings = replace(settings, options=objective.options)
    images = check_inputs("images", images, model, settings)
    held_out = {
        name: check_inputs(f"{name}_images", some, model, settings)[:TEST_IMAGES]
        for name, some in given.items()
    }
    training = Training(
        model=model,
        images=images,
        settings=settings,
        objective=objective,
        adam=Adam(model.params, epsilon=settings.epsilon, kernels=model.ops.name),
        state=initial_state(model, settings.average),
    )
    config = {"model": model.config()} | asdict(settings)
    config |= source_of(data, model.x_dim)
    config["images"], config["digest"] = len(images), digest_of_images(images)
    for name in ("test", "validation"):
        config[f"{name}_images"] = len(held_out.get(name, ()))
    config["threads"] = count()
    config["origin"] = model.origin
    if model.origin is not None:
        config["origin"] = model.origin | {"parameters": model.params.digest()}
    history = {}
    first_rates = [
        float(settings.learning_rate(epoch, 0, training.steps))
        for epoch in range(1, 1 + len(settings.peaks))
    ]
    if folder is not None:
        if not os.fspath(folder):
            raise ValueError("folder must be a path, or None; got ''")
        folder = Path(folder)
    with nullcontext() if folder is None else writing_in(folder):
        if folder is not None:
            history = open_folder(
                folder, config, first_rates, training.adam, training.state
            )
        if settings.binarization == "fixed":
            images = binarize(images, noise.generator(settings.seed, 0, 0))
        training.images = model.to_device(images)
        held_out = {
            name: held_out_pixels(model, some, settings)
            for name, some in held_out.items()
        }
        run = Run(config, history, model, folder)
        try:
            run_epochs(training, run, held_out, callback, progress)
        except KeyboardInterrupt as stop:
            stop.run = run
            raise
        finally:
            model.origin = run.origin()
            run.average = corrected_average(training.adam, training.state, average)
    return run


def run_epochs(training, run, held_out, callback, progress):
    """The epochs that are not yet in the run's history; each is saved when it ends."""
    settings, n = training.settings, len(training.images)
    done, epochs = len(run.history.get("epoch", [])), len(settings.peaks)
    steps = training.steps
    bar = progress_bar(
        total=epochs * n,
        initial=done * n,
        unit="img",
        unit_scale=True,
        show=progress,
    )
    # NumPy need not warn: the first NaN or infinity is an error here, with more to say
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    on_gpu = training.model.device == "cuda"
    queued = queue() if on_gpu else nullcontext()
    with queued, bar, quiet, interruptible() as interrupted:

        def step_done(epoch, images_done, bound=None):
            text = "" if bound is None else f", {settings.bound} {bound:.2f}"
            bar.set_postfix_str(f"epoch {epoch}{text}", refresh=False)
            bar.update((epoch - 1) * n + images_done - bar.n)
            if interrupted() and images_done < n:
                kept = {1: NOTHING_KEPT, 2: "1 epoch is kept"}.get(
                    epoch, f"{epoch - 1} epochs are kept"
                )
                raise KeyboardInterrupt(
                    f"stopped in epoch {epoch} after {images_done:,} of {n:,} images;"
                    f" {kept if run.folder else NOTHING_KEPT}"
                )

        epoch_of = partial(run_epoch, training)
        if on_gpu:
            epoch_of = epochs_on_gpu(training, step_gradient, take_step, run_epoch)
        for epoch in range(done + 1, epochs + 1):
            start = time.perf_counter()
            rates = settings.learning_rate(epoch, np.arange(steps), steps)
            row = {"epoch": epoch, "learning_rate": float(rates[0])}
            row["bound"] = epoch_of(epoch, rates, step_done)
            for name, x in held_out.items():
                value = row[f"{name}_bound"] = held_out_bound(training, x)
                if not np.isfinite(value):
                    text = f"epoch {epoch}: the bound of the {name} images is {value}"
                    warnings.warn(text, stacklevel=3)
            row["seconds"] = time.perf_counter() - start
            for column, entry in row.items():
                run.history.setdefault(column, []).append(entry)
            if run.folder is not None:
                save_epoch(
                    run.folder, run.config, training.adam, training.state, run.history
                )
            report_epoch(row, epochs, settings.bound, progress)
            if interrupted():
                kept = "which is kept" if run.folder else NOTHING_KEPT
                raise KeyboardInterrupt(f"stopped after epoch {epoch}; {kept}")
            if callback is not None:
                run.average = corrected_average(
                    training.adam, training.state, settings.average
                )
                if callback(run):
                    return


def report_epoch(row, epochs, bound, progress):
    """A line on an epoch, where no bar can be shown."""
    text = f"epoch {row['epoch']} of {epochs}: {bound} {row['bound']:.2f}"
    for name in ("test", "validation"):
        if f"{name}_bound" in row:
            text += f", {name} {row[f'{name}_bound']:.2f}"
    say_without_bar(f"{text}, {row['seconds']:.1f} s", show=progress)


def run_epoch(training, epoch, rates, step_done):
    """One pass over the images, each step at its learning rate; the mean of the bound,
    in nats.
    """
    model, settings, n = training.model, training.settings, len(training.images)
    order = noise.generator(settings.seed, epoch, 0).permutation(n)
    order, total = model.to_device(order), 0.0
    for step, start in enumerate(range(0, n, settings.batch), start=1):
        indices = order[start : start + settings.batch]
        value, grads = step_gradient(training, indices, epoch, step)
        value = float(value)
        if not np.isfinite(value):
            raise nonfinite(training, epoch, step, value, grads)
        if not take_step(training, grads, float(rates[step - 1])):
            raise nonfinite(training, epoch, step, value, grads, stepped=True)
        total += value * len(indices)
        step_done(epoch, start + len(indices), value)
    if not np.isfinite(model.params.vector).all():
        raise nonfinite(training, epoch, step, value, {})
    return total / n


def step_gradient(training, indices, epoch, step, select=kept_rows):
    """The mean bound of the images numbered ``indices``, and its gradient.

    The binarisation, eps and the choice of samples are drawn for each chunk of images
    by the thread that takes it.
    """
    model, settings, B = training.model, training.settings, len(indices)
    objective, seed = training.objective, settings.seed
    if objective.has_baseline:
        # eq. 17.5: the running mean, corrected like Adam's for having started at 0
        baseline = training.state["baseline"] / (
            1 - BASELINE_DECAY ** np.maximum(training.adam.t, 1)
        )
        estimator = partial(objective.estimator, baseline=baseline)
        objective = replace(objective, estimator=estimator)
    choices = (objective.uniform_numbers(settings.k),)

    def add(part, grads):
        x = training.images[indices[part]]
        if settings.binarization == "dynamic":
            x = noise.binarize(model.ops, seed, epoch, step, part, x)
        return add_gradient(
            objective,
            model,
            x=x,
            eps=noise.draw_eps(model, seed, epoch, step, part, settings.k),
            uniform=noise.uniform(
                model.ops, seed, epoch, step, noise.SUBSAMPLING, part, choices
            ),
            grads=grads,
            scale=1 / B,
            select=select,
        )

    values, grads = sum_gradients(add, model, B, settings.k)
    value = values.mean()
    if objective.has_baseline:
        baseline = training.state["baseline"]
        baseline[...] = BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * value
    return value, grads


def take_step(training, grads, learning_rate):
    """Adam's step, and the running average's; whether ``grads`` was finite."""
    adam, model = training.adam, training.model
    adam.learning_rate = learning_rate
    finite = adam.step(grads)
    if "average" in training.state:
        decay = training.settings.average
        model.ops.average(training.state["average"], model.params.vector, decay)
    return finite


def held_out_pixels(model, images, settings):
    """Held-out images, on the model's device: binarised once, not anew at each look."""
    if settings.binarization != "none":
        images = binarize(images, noise.generator(settings.seed, 0, 1))
    return model.to_device(images)


def held_out_bound(training, x):
    """The training bound on held-out images, with the same eps every time; for elbo_kl
    the sampled ELBO.
    """
    settings = training.settings
    how = {"k": settings.k, "seed": settings.seed}
    return float(bound_of(training.model, training.objective, x, **how).mean())


def nonfinite(training, epoch, step, value, grads, stepped=False):
    """The `NonFiniteError` that names the first array in the order of the step:
    parameters (which a step has changed already, if ``stepped``), the bound, gradients,
    Adam's moments.
    """
    params = training.model.params
    arrays = {} if stepped else {f"parameter {name}": p for name, p in params.items()}
    arrays[f"the bound ({value})"] = value
    arrays |= {f"the gradient of {name}": array for name, array in grads.items()}
    arrays |= {
        f"the mean square of the gradient of {name}": array
        for name, array in training.adam.v.items()
    }
    bad = next(name for name, array in arrays.items() if not np.isfinite(array).all())
    advice = "a lower learning rate may help"
    if (epoch, step) == (1, 1) and grads:  # and not at the end of that epoch
        images, sizes = training.images, {n: abs(p).max() for n, p in params.items()}
        largest, sigma = max(sizes, key=sizes.get), training.model.x_sigma
        advice = (
            "no step was taken before it, so something is out of scale: the images lie"
            f" in [{images.min():g}, {images.max():g}],"
            + (f" x_sigma is {sigma:g}," if sigma else "")
            + f" and no parameter exceeds {sizes[largest]:g} (in {largest})"
        )
    return NonFiniteError(
        f"epoch {epoch}, step {step}: NaN or infinity in {bad}; {advice}"
    )


def check_inputs(name, images, model, settings):
    """`check_images`, and grey values where they will be binarized."""
    images = check_images(name, images, model)
    if settings.binarization != "none":
        check_range(name, images)
    return images
