"""A run's folder: its settings, its checkpoint, its history, all written at the end of
each epoch.

A checkpoint is one .npz of plain arrays: parameters, Adam's moments and step count, the
epoch, the history. Nothing is pickled and nothing unpickled. There is no generator
state in it, because a step's noise depends only on (seed, epoch, step).
"""

import warnings
from math import ceil
from pathlib import Path

import numpy as np

from ..kernels.device import to_host
from .files import (
    read_json,
    remove_temporaries,
    write_atomically,
    write_csv,
    write_json,
)
from .npz import open_npz

# settings that the config.json of a run of version 0.1 does not name
UNNAMED = {"schedule": "constant", "average": None, "validation_images": 0}
MAY_DIFFER = ("stages", "device", "kernels", "threads")
# what says which images they were, but for their digest, which decides it
OF_IMAGES = ("data", "data_options", "image_shape")
HELD_OUT = ("test_bound", "validation_bound")  # which may be infinite
COLUMNS = ("epoch", "learning_rate", "bound", *HELD_OUT, "seconds")


def open_folder(folder, config, rates, adam, state):
    """Load the checkpoint of the run in ``folder``, if there is one, into ``adam``, its
    parameters, and ``state``. The caller holds the folder's lock.

    Its settings must be these. Only the stages may differ, as long as the epochs
    already done ran at these learning rates: so a run can be prolonged; and the device,
    its kernels and the number of threads, which differ by rounding. The same images may
    have another name.

    Returns
    -------
    history : dict
        Column -> list; empty for a new run.
    """
    config_path, checkpoint_path = folder / "config.json", folder / "checkpoint.npz"
    for path in (config_path, checkpoint_path, folder / "metrics.csv"):
        remove_temporaries(path)  # whoever wrote them was killed
    history = {}
    if checkpoint_path.exists():
        if not config_path.is_file():
            raise ValueError(f"{folder} holds a checkpoint without its config.json")
        there = read_config(config_path)
        if same_origin(folder, there.get("origin"), config["origin"]):
            config["origin"] = there.get("origin")
        was, now = ({**c["model"], **c, "model": None} for c in (there, config))
        was = UNNAMED | was
        may_differ = MAY_DIFFER
        if "digest" in was:
            refuse_other_images(f"{folder} holds", was, now)
            may_differ += OF_IMAGES
        else:  # a run of version 0.2 or older knows the name, at most
            may_differ += ("data_options", "image_shape", "digest")
        other = [
            f"{key} was {was.get(key)!r}, is {value!r}"
            for key, value in now.items()
            if key not in may_differ and was.get(key) != value
        ]
        if other:
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(other)}):"
                " choose another folder"
            )
        done, history = load_checkpoint(checkpoint_path, adam, state, there)
        if done > len(rates):
            raise ValueError(f"{folder} holds {done} epochs already, not {len(rates)}")
        if history["learning_rate"] != rates[:done]:
            raise ValueError(
                f"{folder} holds {done} epochs at other learning rates:"
                " choose another folder"
            )
        # a kill may have come between the checkpoint and this file
        write_csv(folder / "metrics.csv", history)
        if done == len(rates):  # config.json goes on to say how it was trained
            return history
        if now["device"] == "cpu" and was.get("threads") not in (None, now["threads"]):
            warnings.warn(
                f"{folder}: begun with {was['threads']} threads, resumed with"
                f" {now['threads']}: the bits will differ from an unbroken run's",
                stacklevel=3,
            )
    write_json(config_path, config)
    return history


def same_origin(folder, was, now):
    """Whether a run that started from the origin ``was`` may be resumed with a model
    of the origin ``now``: one that comes from this ``folder``, or that is the same
    run's or has the same parameters, whatever has become of that run since.
    """
    if now is None:
        return was is None
    if now["run"] is not None and Path(now["run"]).absolute() == folder.absolute():
        return True
    keys = [key for key in ("run", "parameters") if now[key] is not None]
    return was is not None and any(was.get(key) == now[key] for key in keys)


def refuse_other_images(holds, was, now):
    """Raise ValueError if the settings ``was`` of a run are of other images than those
    that the settings ``now`` speak of. The text begins with ``holds``.
    """
    if was.get("digest", now["digest"]) != now["digest"]:
        raise ValueError(
            f"{holds} a run on {images_named(was)}; these are {images_named(now)}"
        )


def images_named(config):
    """A run's training images in words, as its settings know them."""
    shape = config.get("image_shape") or ["?"]
    name = config.get("data") or "an array that has no name"
    text = f"{config['images']:,} images of {' x '.join(map(str, shape))} pixels"
    return f"{text} from {name} (digest {config['digest'][:8]})"


def read_config(path):
    """A run's settings, as far as they are read again.

    Raises
    ------
    ValueError
        If the file is none of a run, or damaged; it names the file.
    """
    config = read_json(path)
    average = config.get("average")
    checks = {
        "model": isinstance(config.get("model"), dict),
        "bound": isinstance(config.get("bound"), str),
        "k": type(config.get("k")) is int,
        "data": isinstance(config.get("data"), str | None),
        "origin": isinstance(config.get("origin"), dict | None),
        "data_options": isinstance(config.get("data_options", {}), dict),
        "digest": isinstance(config.get("digest", ""), str),
        "image_shape": is_image_shape(config.get("image_shape")),
        "average": average is None or (type(average) is float and 0 < average < 1),
        "images": type(config.get("images", 1)) is int and config.get("images", 1) > 0,
        "batch": type(config.get("batch", 1)) is int and config.get("batch", 1) > 0,
    }
    wrong = [
        f"{key} is {config.get(key)!r:.50}" for key, ok in checks.items() if not ok
    ]
    if wrong:
        raise ValueError(f"{path}: not a run's settings ({'; '.join(wrong)})")
    return config


def is_image_shape(shape):
    """Whether ``shape`` is one, or None, which is unknown."""
    return shape is None or (
        isinstance(shape, list)
        and len(shape) in (2, 3)
        and all(type(n) is int and 0 < n < 2**20 for n in shape)
    )


def save_epoch(folder, config, adam, state, history):
    """Write the checkpoint, and then the history as metrics.csv."""
    if not (folder / "config.json").is_file():
        warnings.warn(
            f"{folder}: somebody removed the config.json of this run, which needs it:"
            " written again",
            stacklevel=3,
        )
        write_json(folder / "config.json", config)
    save_checkpoint(folder / "checkpoint.npz", adam, state, history)
    write_csv(folder / "metrics.csv", history)


def save_checkpoint(path, adam, state, history):
    """Write a checkpoint; ``history`` is a dict of equally long columns of numbers."""
    arrays = {"epoch": np.int64(len(history["epoch"])), "adam_t": to_host(adam.t)}
    for kind, group in (
        ("params", adam.params),
        ("adam_m", adam.m),
        ("adam_v", adam.v),
        ("state", state),
        ("history", history),
    ):
        arrays |= {f"{kind}/{name}": to_host(values) for name, values in group.items()}
    write_atomically(path, lambda file: np.savez(file, **arrays))


def load_checkpoint(path, adam, state, config):
    """Fill ``adam``, its parameters and ``state`` in place from a checkpoint.

    Returns
    -------
    epoch : int
        Epochs done.
    history : dict
        Column -> list of numbers.

    Raises
    ------
    ValueError
        If the file is damaged or belongs to another model or to other settings than
        ``config``; nothing has been filled in then.
    """
    groups = {
        "params": adam.params,
        "adam_m": adam.m,
        "adam_v": adam.v,
        "state": state,
    }
    fills = {
        f"{kind}/{name}": target
        for kind, group in groups.items()
        for name, target in group.items()
    }
    fills["adam_t"] = adam.t
    wanted = {"epoch": np.zeros((), np.int64), **fills}
    with open_npz(path, "a checkpoint") as (header, read):
        for key, like in wanted.items():
            want, got = (like.dtype, like.shape), header(key)
            if got != want:
                got = "no such array" if got is None else f"{got[0]} {got[1]}"
                raise ValueError(
                    f"{path}: {key} must be {want[0]} {want[1]}; got {got}"
                )
        arrays = {key: read(key) for key in wanted}
        epoch = int(arrays["epoch"])
        history = {}
        for name in COLUMNS:
            found = header(f"history/{name}")
            if found is not None:
                if found[0].kind not in "if" or found[1] != (epoch,):
                    raise ValueError(
                        f"{path}: its history is not that of {epoch} epochs: {name} is"
                        f" {found[0]} {found[1]}"
                    )
                history[name] = read(f"history/{name}")
    for key, array in [*arrays.items(), *history.items()]:
        if key not in HELD_OUT and not np.isfinite(array).all():
            raise ValueError(f"{path}: {key} holds NaN or infinity")
        if key.startswith("adam_v/") and (array < 0).any():
            raise ValueError(f"{path}: {key} holds a negative mean of squares")
    if not {"epoch", "learning_rate", "bound"} <= history.keys() or epoch < 1:
        raise ValueError(f"{path}: its history is not that of {epoch} epochs")
    if (history["epoch"] != np.arange(1, epoch + 1)).any():
        numbers = history["epoch"].tolist()
        raise ValueError(f"{path}: its history is of the epochs {str(numbers)[:50]}")
    t = int(arrays["adam_t"])
    if {"images", "batch"} <= config.keys():
        steps = epoch * ceil(config["images"] / config["batch"])
        if t != steps:
            raise ValueError(f"{path}: adam_t must be {steps}; got {t}")
    for key, target in fills.items():
        target[...] = np.asarray(arrays[key], like=target)
    return epoch, {name: column.tolist() for name, column in history.items()}
