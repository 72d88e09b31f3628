"""Files written so that a kill or a power cut at any moment leaves the old file or the
new one, and never a half; and files read that are what they seem.
"""

import csv
import errno
import json
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path

MOST_TEXT = 2**24  # bytes of a JSON file
STALE = 3600  # seconds after which no process still writes a temporary file


def write_atomically(path, write):
    """Call ``write(file)`` on a temporary file beside ``path``, then rename it to that.

    A link is followed, and only a regular file is ever replaced. The temporary file has
    a name of its own, so two writers do not meet, and none is left behind by an error.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(f"{path}: there is something else than a file of this name")
    remove_temporaries(path, older_than=STALE)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with named_in_errors(path):
            with open(temporary, "xb") as file:  # x: never through a link that is there
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named_in_errors(path):
    """The system's errors within name the file that was to be written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{path}: not written: {error.strerror}") from error


def remove_temporaries(path, older_than=0):
    """Remove what killed writers of ``path`` left, if it is that many seconds old."""
    for entry in os.scandir(path.parent):
        if entry.name.startswith(f"{path.name}.") and entry.name.endswith(".tmp"):
            with suppress(OSError):  # it may be another's, who has just renamed it
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if age >= older_than:
                    os.unlink(entry)


def sync_folder(folder):
    """Let the names in ``folder`` outlast a power cut, where a folder can be synced."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows keeps them by itself
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(descriptor)


def open_regular(path, most=None):
    """``path`` opened for reading bytes, if it is a regular file, of ``most`` bytes.

    A pipe or a device would have us wait or read for ever: a ValueError names it.
    """
    nonblocking = getattr(os, "O_NONBLOCK", 0)  # nor is a pipe waited for
    file = open(
        path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking)
    )
    status = os.fstat(file.fileno())
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "not a regular file"
    elif most is not None and status.st_size > most:
        problem = f"{status.st_size:,} bytes, where {most:,} are the most"
    if problem:
        file.close()
        raise ValueError(f"{path}: {problem}")
    return file


def write_text(path, text):
    """``text`` and an end of line."""
    write_atomically(path, lambda file: file.write((text + "\n").encode()))


def write_json(path, value):
    """``value`` as indented JSON, which has no infinity and no NaN: they are written as
    the strings that ``float`` takes, "inf" and "nan".
    """
    write_text(path, json.dumps(spelled(value), indent=2, allow_nan=False))


def spelled(value):
    """``value`` with strings for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: spelled(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(entry) for entry in value]
    if isinstance(value, float) and not isfinite(value):
        return str(float(value))
    return value


def read_json(path):
    """What `write_json` wrote, or a ValueError that names the file."""
    with open_regular(path, MOST_TEXT) as file:
        raw = file.read()
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a run's settings")
    return value


def write_csv(path, history):
    """``history``, a dict of equally long columns, as CSV with a header."""
    rows = [history, *(map(repr, row) for row in zip(*history.values()))]
    write_text(path, "\n".join(",".join(row) for row in rows))


def columns_of(path):
    """What `write_csv` wrote: column -> numbers; empty where there is no file, and a
    ValueError, which names it, where it is damaged.
    """
    if not path.exists():
        return {}
    try:
        with open_regular(path, MOST_TEXT) as file:
            names, *rows = csv.reader(file.read().decode().splitlines())
        columns = zip(names, zip(*rows, strict=True), strict=True)
        return {name: [*map(float, column)] for name, column in columns}
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not whole columns of numbers ({error})") from error
