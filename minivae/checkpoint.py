"""A run's files, written so that a kill at any moment leaves the old file or the new
one, never a half.

A checkpoint is one .npz of plain arrays: parameters, Adam's moments and step count, the
epoch, the history. Nothing is pickled and nothing unpickled. There is no generator
state in it, because a step's noise depends only on (seed, epoch, step).
"""

import json
import os
from pathlib import Path

import numpy as np

from .kernels.device import to_host


def write_atomically(path, write):
    """Call ``write(file)`` on a temporary file beside ``path``, then rename it to that.

    A link is followed, and only a regular file is ever replaced.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(f"{path}: there is something else than a file of this name")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"{path}: not written: {error.strerror}") from error


def write_json(path, value):
    """``value`` as indented JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path):
    """What `write_json` wrote, or a ValueError that names the file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a run's settings")
    return value


def write_csv(path, history):
    """``history``, a dict of equally long columns, as CSV with a header."""
    lines = [",".join(history)] + [
        ",".join(repr(value) for value in row) for row in zip(*history.values())
    ]
    write_atomically(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def save_checkpoint(path, params, adam, state, epoch, history):
    """Write a checkpoint; ``history`` is a dict of equally long columns of numbers."""
    arrays = {"epoch": np.int64(epoch), "adam_t": to_host(adam.t)}
    for kind, group in (
        ("params", params),
        ("adam_m", adam.m),
        ("adam_v", adam.v),
        ("state", state),
        ("history", history),
    ):
        arrays |= {
            f"{kind}/{name}": to_host(values) for name, values in group.items()
        }
    write_atomically(path, lambda file: np.savez(file, **arrays))


def load_checkpoint(path, params, adam=None, state=None):
    """Fill ``params`` (and ``adam`` and ``state``) in place from a checkpoint.

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
    groups = {"params": params}
    if adam is not None:
        groups |= {"adam_m": adam.m, "adam_v": adam.v, "state": state}
    fills = {
        f"{kind}/{name}": target
        for kind, group in groups.items()
        for name, target in group.items()
    }
    count = np.zeros((), np.int64)
    fills["adam_t"] = count if adam is None else adam.t
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
