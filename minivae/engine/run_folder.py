"""A run's folder: its settings, its checkpoint, its history, all written at the end of
each epoch.

A checkpoint is one .npz of plain arrays: parameters, Adam's moments and step count, the
epoch, the history. Nothing is pickled and nothing unpickled. There is no generator
state in it, because a step's noise depends only on (seed, epoch, step).
"""

import warnings

import numpy as np

from ..kernels.device import to_host
from .files import (
    read_json,
    remove_temporaries,
    write_atomically,
    write_csv,
    write_json,
)

# settings that the config.json of a run of version 0.1 does not name
UNNAMED = {"schedule": "constant", "average": None}
MAY_DIFFER = ("stages", "device", "kernels", "threads")


def open_folder(folder, config, rates, adam, state):
    """Load the checkpoint of the run in ``folder``, if there is one, into ``adam``, its
    parameters, and ``state``. The caller holds the folder's lock.

    Its settings must be these. Only the stages may differ, as long as the epochs
    already done ran at these learning rates: so a run can be prolonged; and the device,
    its kernels and the number of threads, which differ by rounding.

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
        there = read_json(config_path)
        was, now = ({**c.get("model", {}), **c, "model": None} for c in (there, config))
        was = UNNAMED | was
        other = [
            f"{key} was {was.get(key)!r}, is {value!r}"
            for key, value in now.items()
            if key not in MAY_DIFFER and was.get(key) != value
        ]
        if other:
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(other)}):"
                " choose another folder"
            )
        done, history = load_checkpoint(checkpoint_path, adam, state)
        if done > len(rates):
            raise ValueError(f"{folder} holds {done} epochs already, not {len(rates)}")
        if history["learning_rate"] != rates[:done]:
            raise ValueError(
                f"{folder} holds {done} epochs at other learning rates:"
                " choose another folder"
            )
        if now["device"] == "cpu" and was.get("threads") not in (None, now["threads"]):
            warnings.warn(
                f"{folder}: begun with {was['threads']} threads, resumed with"
                f" {now['threads']}: the bits will differ from an unbroken run's",
                stacklevel=3,
            )
        # a kill may have come between the checkpoint and this file
        write_csv(folder / "metrics.csv", history)
    write_json(config_path, config)
    return history


def save_epoch(folder, adam, state, history):
    """Write the checkpoint, and then the history as metrics.csv."""
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


def load_checkpoint(path, adam, state):
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
        If the file is damaged or belongs to another model; nothing has been filled in
        then.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy raises nearly anything on a damaged file
        raise ValueError(f"{path}: damaged, or not a checkpoint") from error
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
    count = np.zeros((), np.int64)
    fills["adam_t"] = adam.t
    for key, like in {"epoch": count, **fills}.items():
        want, got = f"{like.dtype} {like.shape}", "no such array"
        if key in arrays:
            got = f"{arrays[key].dtype} {arrays[key].shape}"
        if got != want:
            raise ValueError(f"{path}: {key} must be {want}; got {got}")
        if not np.isfinite(arrays[key]).all():
            raise ValueError(f"{path}: {key} holds NaN or infinity")
    epoch, prefix = int(arrays["epoch"]), "history/"
    history = {
        key.removeprefix(prefix): array
        for key, array in arrays.items()
        if key.startswith(prefix)
    }
    whole = {"epoch", "learning_rate", "bound"} <= history.keys()
    if not whole or any(column.shape != (epoch,) for column in history.values()):
        raise ValueError(f"{path}: its history is not that of {epoch} epochs")
    for key, target in fills.items():
        target[...] = np.asarray(arrays[key], like=target)
    return epoch, {name: column.tolist() for name, column in history.items()}
