"""A run, and how to load one from its folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .engine.files import read_json
from .engine.run_folder import load_checkpoint
from .model import VAE


@dataclass
class Run:
    """A run: its settings, its history (column -> entry per epoch) and its model."""

    config: dict
    history: dict
    model: VAE
    folder: Path | None


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
