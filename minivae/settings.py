"""The settings of a training run, checked once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .engine.checks import check_real, check_seed, check_size, choose

MOST_EPOCHS = 1_000_000
BINARIZATIONS = ("dynamic", "fixed", "none")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Settings:
    """What `minivae.train` was asked for; each attribute is explained there.

    ``stages`` is a list of (epochs, learning rate), whichever way it was said, and
    ``options`` are those of the bound and of the estimator.
    """

    bound: str
    k: int
    estimator: str
    options: dict
    backward: str
    tau: float
    stages: list
    schedule: str
    average: float | None
    batch: int
    epsilon: float
    binarization: str
    seed: int

    @cached_property
    def peaks(self):
        """The stages' learning rate, of each epoch."""
        return [rate for epochs, rate in self.stages for _ in range(epochs)]

    def learning_rate(self, epoch, step, steps):
        """The learning rate of a step, or of an array of steps, of an epoch (1, 2, ...)
        that has the steps 0 ... ``steps`` - 1.
        """
        peak = self.peaks[epoch - 1]
        if self.schedule == "constant":
            return peak + 0.0 * step
        done = ((epoch - 1) * steps + step) / (len(self.peaks) * steps)
        return peak * (1 + np.cos(np.pi * done)) / 2  # eq. 11.6


def check_settings(model, *, epochs, learning_rate, stages, **given):
    """The `Settings` of a run, from the arguments of `minivae.train`.

    Raises
    ------
    ValueError, TypeError
        For what is out of range. (Names and options: `minivae.engine.objective`.)
    """
    if given["binarization"] is None:
        dynamic = model.likelihood == "bernoulli"
        given["binarization"] = "dynamic" if dynamic else "none"
    binarization = choose("binarization", given["binarization"], BINARIZATIONS)
    if binarization == "none" and model.likelihood == "bernoulli":
        raise ValueError("likelihood 'bernoulli' needs a binarization, not 'none'")
    stages = [(epochs, learning_rate)] if stages is None else stages
    given["stages"] = [
        [check_size("epochs", n), check_real("learning_rate", r)] for n, r in stages
    ]
    for name in ("k", "batch"):
        given[name] = check_size(name, given[name])
    for name in ("tau", "epsilon"):
        given[name] = check_real(name, given[name])
    if given["average"] is not None:
        given["average"] = check_real("average", given["average"])
    given["seed"] = check_seed("seed", given["seed"])
    settings = Settings(**given)
    choose("schedule", settings.schedule, SCHEDULES)
    if settings.average is not None and not 0 < settings.average < 1:
        raise ValueError(
            "average must lie between 0 and 1, as 0.999, or be left out; got"
            f" {settings.average!r}"
        )
    if sum(epochs for epochs, _ in settings.stages) > MOST_EPOCHS:
        raise ValueError(f"epochs must be at most {MOST_EPOCHS:,} in all; got {stages}")
    rates, epsilon = settings.peaks, settings.epsilon
    if not rates:
        raise ValueError("stages must hold one stage or more; got none")
    least = np.finfo(model.dtype).tiny  # what is less would be zero in this dtype
    if not all(0 < rate < np.inf for rate in rates) or not least <= epsilon < np.inf:
        raise ValueError(
            f"learning_rate and epsilon must be positive and finite; got {stages} and"
            f" {epsilon}"
        )
    return settings
