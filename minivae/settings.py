"""The settings of a training run, checked once, and the presets."""

from dataclasses import asdict, dataclass

import numpy as np

from .engine.checks import check_seed, check_size, choose

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
MOST_EPOCHS = 1_000_000
BINARIZATIONS = ("dynamic", "fixed", "none")


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
    batch: int
    epsilon: float
    binarization: str
    seed: int
    data: str | None

    def rates(self):
        """The learning rate of each epoch."""
        stages = self.stages
        if sum(epochs for epochs, _ in stages) > MOST_EPOCHS:
            raise ValueError(
                f"epochs must be at most {MOST_EPOCHS:,} in all; got {stages}"
            )
        return [rate for epochs, rate in stages for _ in range(epochs)]

    def config(self):
        """The settings as JSON can hold them."""
        return asdict(self)


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
    given["stages"] = [[check_size("epochs", n), float(rate)] for n, rate in stages]
    for name in ("k", "batch"):
        given[name] = check_size(name, given[name])
    for name in ("tau", "epsilon"):
        given[name] = float(given[name])
    given["seed"] = check_seed("seed", given["seed"])
    settings = Settings(**given)
    rates, epsilon = settings.rates(), settings.epsilon
    if not rates:
        raise ValueError("stages must hold one stage or more; got none")
    least = np.finfo(model.dtype).tiny  # what is less would be zero in this dtype
    if not all(0 < rate < np.inf for rate in rates) or not least <= epsilon < np.inf:
        raise ValueError(
            f"learning_rate and epsilon must be positive and finite; got {stages} and"
            f" {epsilon}"
        )
    return settings
