"""Files written so that a kill at any moment leaves the old file or the new one, and
never a half.
"""

import json
import os
from pathlib import Path


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


def write_text(path, text):
    """``text`` and an end of line."""
    write_atomically(path, lambda file: file.write((text + "\n").encode()))


def write_json(path, value):
    """``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False))


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
    rows = [history, *(map(repr, row) for row in zip(*history.values()))]
    write_text(path, "\n".join(",".join(row) for row in rows))
