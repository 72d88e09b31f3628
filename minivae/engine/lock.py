"""One writer in a folder: a lock that the process holds, and that dies with it.

The file ``.lock`` is no lock by itself. One that a killed process left is taken over.
"""

import os
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import named_in_errors

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None
    import msvcrt

NAME = ".lock"
FAR = 2**30  # Windows locks bytes, and lets nobody read them: not those of the number
HELD = set()  # the files whose locks this process holds


def forget_locks():
    """A forked child holds none of its parent's locks."""
    for file in HELD:
        file.close()
    HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_locks)


def try_lock(file):
    """Whether the lock on an open file is now ours, until it is closed."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        message = f"{file.name}: no locks here ({error}): see that no other run writes"
        warnings.warn(message, stacklevel=4)
    return True


def open_lock(path):
    """The file of a lock, which may be new; never through a link, nor a pipe."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return open(
        path,
        "r+b",
        buffering=0,  # on a full disk a buffer would fail once more when it is closed
        opener=lambda name, _: os.open(name, flags, 0o666),
    )


@contextmanager
def writing_in(folder):
    """Hold the lock of ``folder``, which is made where it is missing.

    Raises
    ------
    BlockingIOError
        If another holds it; with the number of its process.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a run needs a folder, and this is none")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    while True:
        file = open_lock(path)
        if not try_lock(file):
            with file:
                file.seek(0)
                process = file.read(20).decode("ascii", "replace").strip()
            raise BlockingIOError(
                f"{folder}: another run (process {process or 'unknown'}) is writing"
                " here: wait for its end, or choose another folder"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()  # it had been removed by who held the lock before us
    HELD.add(file)
    try:
        with named_in_errors(path):
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n".encode())
        yield
    finally:
        if file in HELD:  # and this is no forked child
            if fcntl:  # while it is ours; Windows removes no open file
                path.unlink(missing_ok=True)
            HELD.remove(file)
            file.close()
            if not fcntl:
                with suppress(OSError):  # another has opened it
                    path.unlink()
