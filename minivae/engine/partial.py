"""What a long computation has measured so far, in a file from which it goes on."""

import time
import warnings
from pathlib import Path

import numpy as np

from .files import write_atomically
from .interrupt import NOTHING_KEPT
from .npz import open_npz

SECONDS = 20  # between two writings


def kept_results(path, key, arrays):
    """How much of ``arrays`` was filled by a computation that was stopped, and a
    function ``keep(done, at_once)`` that writes them down, at times or at once.

    Whoever has used the results removes the file.

    Parameters
    ----------
    path : path-like, or None to keep nothing
    key : str
        The `digest` of all that decides the numbers: what another key left is not used.
    arrays : dict
        Name -> array, filled in place.
    """
    if path is None:
        return 0, lambda done, at_once=False: None
    path, last = Path(path), time.monotonic()

    def keep(done, at_once=False):
        nonlocal last
        if at_once or time.monotonic() - last > SECONDS:
            saved = arrays | {"key": np.array(key), "done": np.int64(done)}
            write_atomically(path, lambda file: np.savez(file, **saved))
            last = time.monotonic()

    return read_partial(path, key, arrays), keep


def stopped(path, done, total):
    """The KeyboardInterrupt of a computation on ``total`` images that `kept_results`
    has kept, or has not, in ``path``.
    """
    result = NOTHING_KEPT if path is None else "they are kept"
    return KeyboardInterrupt(f"stopped after {done} of {total} images; {result}")


def read_partial(path, key, arrays):
    """Fill ``arrays`` by what ``path`` holds, if it is of this key; how much is done.

    A file that is damaged is no reason to stop: all is measured again.
    """
    if not path.exists():
        return 0
    try:
        with open_npz(path, "a partial result") as (header, read):
            if header("key") is None or str(read("key")) != key:
                return 0
            wanted = {
                name: (array.dtype, array.shape) for name, array in arrays.items()
            }
            if {name: header(name) for name in arrays} != wanted:
                raise ValueError(f"{path}: its arrays are not those of its key")
            found = {name: read(name) for name in arrays}
            done = int(read("done"))
    except (ValueError, OSError) as error:
        warnings.warn(f"{error}: measured again", stacklevel=4)
        return 0
    for name, array in found.items():
        arrays[name][...] = array
    return done
