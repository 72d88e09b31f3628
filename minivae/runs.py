"""A run, and how to load one from its folder."""

from __future__ import annotations

import os
import warnings
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import data as image_sets
from .adam import Adam
from .engine.digest import digest_of_images
from .engine.params import Params
from .engine.run_folder import (
    images_named,
    load_checkpoint,
    read_config,
    refuse_other_images,
)
from .model import VAE

OBJECTIVE = ("bound", "k", "estimator")  # the settings by which an origin is named


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

    def __repr__(self):
        epochs = len(self.history.get("epoch", []))
        bound = f", bound {self.history['bound'][-1]:.2f} nats" if epochs else ""
        objective = " ".join(f"{self.config[name]}" for name in ("bound", "estimator"))
        return (
            f"Run: {objective}, k = {self.config['k']}, {epochs} epochs{bound}, in"
            f" {self.folder or 'no folder'}\n{self.model!r}"
        )

    def averaged(self) -> VAE:
        """A model of its own, with the running average of the parameters.

        Raises
        ------
        ValueError
            If the run did not keep one.
        """
        if self.average is None:
            raise ValueError("this run kept no average of its parameters: see `train`")
        model = copy(self.model)
        vars(model)["params"] = self.average.copy()  # and not into the run's own
        model.origin = self.origin() | {"averaged": True}
        return model

    def origin(self) -> dict:
        """What a run that starts from this one's parameters says of it."""
        return {
            "run": None if self.folder is None else str(self.folder),
            "epoch": len(self.history.get("epoch", [])),
            **{name: self.config[name] for name in OBJECTIVE},
        }

    def lineage(self) -> dict:
        """The histories of the run that this one started from, of the one before that,
        and so on, the oldest first, and of this one: label -> columns, in which the
        epochs are counted on from one run to the next.

        The way back ends where a run is no longer to be found.
        """
        runs = [(self, len(self.history["epoch"]))]
        while origin := runs[0][0].config.get("origin"):
            try:
                older = load_run(origin["run"])
            except (TypeError, OSError, ValueError):  # without a folder, or gone
                break
            if any(run.folder and run.folder.samefile(older.folder) for run, _ in runs):
                break  # the folder has been used again
            if any(older.config.get(name) != origin.get(name) for name in OBJECTIVE):
                break  # by a run with another objective
            runs.insert(0, (older, origin["epoch"]))
        histories, before = {}, 0
        for run, epochs in runs:
            label = f"{run.config['bound']}, k = {run.config['k']}"
            if len(runs) > 1 and run.folder:
                label = f"{run.folder}: {label}"
            columns = {name: column[:epochs] for name, column in run.history.items()}
            columns["epoch"] = [before + epoch for epoch in columns["epoch"]]
            histories[label] = columns
            before += epochs
        return histories


def load_images(run: Run, data: str | os.PathLike | None = None):
    """The image set that a run was trained on, loaded again.

    Parameters
    ----------
    run : Run
    data : str or path-like, optional
        Where it is, as `minivae.load` takes it, if not where the run had it from.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If the run does not say where its images are, and if these are not the run's.
    FileNotFoundError
        If they are no longer there.
    """
    config, source = run.config, data or run.config.get("data")
    where = run.folder or "this run"
    if source is None:
        which = images_named(config) if "digest" in config else "unknown images"
        raise ValueError(
            f"{where} was trained on {which}, which cannot be had again unless --data"
            " says where they are"
        )
    try:
        found = image_sets.load(source, **config.get("data_options", {}))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}: {where} was trained on images from there; if they are elsewhere"
            " now, --data PATH says where"
        ) from error
    here = {
        "images": len(found.train_images),
        "digest": digest_of_images(found.train_images),
        "image_shape": found.image_shape,
        "data": found.name,
    }
    if "digest" in config:
        refuse_other_images(f"{where} holds", config, here)
    elif data is not None:
        warnings.warn(
            f"{where} is of an older version and was trained on unknown images; these"
            f" are {images_named(here)}",
            stacklevel=2,
        )
    if found.train_images.shape[1] != run.model.x_dim:
        raise ValueError(
            f"{where} holds a model of {run.model.x_dim} pixels; these are"
            f" {images_named(here)}"
        )
    return found


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
    where none is kept, and before the first step.
    """
    if "average" not in state or not int(adam.t):
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
    run = Run(config, history, model, folder, average)
    model.origin = run.origin()
    return run
