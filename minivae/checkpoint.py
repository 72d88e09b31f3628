"""A run's files, written so that a kill at any moment leaves the old file or the new
one, never a half.

A checkpoint is one .npz of plain arrays: parameters, Adam's moments and step count, the
epoch, the history. Nothing is pickled and nothing unpickled. There is no generator
state in it, because a step's noise depends only on (seed, epoch, step).
"""

import json
import os
import zipfile
from pathlib import Path

import numpy as np


def write_atomically(path, write):
    """Call ``write(file)`` on a temporary file beside ``path``, flush it to the disk,
    and rename it to ``path``.
    """
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path, value):
    """``value`` as indented JSON."""
    write_atomically(
        path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode())
    )


def read_json(path):
    """What `write_json` wrote, or a ValueError that names the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable JSON ({error})") from error


def write_csv(path, history):
    """``history``, a dict of equally long columns, as CSV with a header."""
    lines = [",".join(history)] + [
        ",".join(repr(value) for value in row) for row in zip(*history.values())
    ]
    write_atomically(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def save_checkpoint(path, params, adam, epoch, history):
    """Write a checkpoint; ``history`` is a dict of equally long columns of numbers."""
    arrays = {"epoch": np.int64(epoch), "adam_t": np.int64(adam.t)}
    for kind, group in (
        ("params", params),
        ("adam_m", adam.m),
        ("adam_v", adam.v),
        ("history", history),
    ):
        arrays |= {
            f"{kind}/{name}": np.asarray(values) for name, values in group.items()
        }
    write_atomically(path, lambda file: np.savez(file, **arrays))


def load_checkpoint(path, params, adam=None):
    """Fill ``params`` (and ``adam``'s moments) in place from a checkpoint.

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
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a readable checkpoint ({error})") from error
    groups = {"params": params}
    if adam is not None:
        groups |= {"adam_m": adam.m, "adam_v": adam.v}
    pairs = [
        (f"{kind}/{name}", target)
        for kind, group in groups.items()
        for name, target in group.items()
    ]
    for key, target in pairs:
        got = arrays[key].shape if key in arrays else "no such array"
        if got != target.shape:
            raise ValueError(
                f"{path}: {key} must be of shape {target.shape}; got {got}"
            )
    missing = {"epoch", "adam_t"} - arrays.keys()
    if missing:
        raise ValueError(f"{path}: no array called {', '.join(sorted(missing))}")
    for key, target in pairs:
        target[...] = arrays[key]
    if adam is not None:
        adam.t = int(arrays["adam_t"])
    prefix = "history/"
    history = {
        key.removeprefix(prefix): array.tolist()
        for key, array in arrays.items()
        if key.startswith(prefix)
    }
    return int(arrays["epoch"]), history
