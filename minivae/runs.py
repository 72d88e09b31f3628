"""A run, and how to load one from its folder."""

from __future__ import annotations

import os
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .adam import Adam
from .engine.params import Params
from .engine.run_folder import load_checkpoint, read_config
from .model import VAE


@dataclass
class Run:
    """A run: its settings, its history (column -> entry per epoch) and its model.

    ``average`` holds the running average of the parameters, if the run kept one.
    """

    config: dict
    history: dict
    model: VAE
    folder: Path | None
    average: Params | None = None

    def averaged(self) -> VAE:
        """A model with the running average of the parameters.

        Raises
        ------
        ValueError
            If the run did not keep one.
        """
        if self.average is None:
            raise ValueError("this run kept no average of its parameters: see `train`")
        model = copy(self.model)
        model.params = self.average
        return model


def initial_state(model, average):
    """What a step changes besides the parameters and Adam's moments: name -> array.

    "baseline" is a running mean of the bound; "average", if its decay ``average`` is
    not None, that of the parameters. Both start at zero.
    """
    state = {"baseline": model.to_device(np.zeros(()))}
    if average is not None:
        state["average"] = np.zeros_like(model.params.vector)
    return state


def corrected_average(adam, state, decay):
    """The average of the parameters, without the zeros that it started from; None
    where none is kept.
    """
    if "average" not in state:
        return None
    correction = 1 - decay ** int(adam.t)  # of a_0 = 0
    return Params(adam.params.shapes(), state["average"] / correction)


def load_run(folder: str | os.PathLike, device: str = "cpu") -> Run:
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
    config = read_config(folder / "config.json")
    settings = config["model"]
    if settings.get("device") != device:
        settings = settings | {"device": device, "kernels": None}
    try:  # the weights drawn here are overwritten next
        model = VAE(**settings, rng=np.random.default_rng(0))
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'config.json'}: not a run's settings ({error})"
        ) from error
    decay = config.get("average")
    adam, state = Adam(model.params), initial_state(model, decay)
    _, history = load_checkpoint(folder / "checkpoint.npz", adam, state, config)
    average = corrected_average(adam, state, decay)
    return Run(config, history, model, folder, average)
