"""What is said to a user, which never decides whether the work counts.

A reader who has seen enough, a full disk behind ``>`` or an encoding that lacks a
letter are no errors of a run: what cannot be printed is escaped, or goes nowhere.
"""

import os
import sys
from contextlib import suppress

from tqdm import tqdm


def say(text, to="stdout"):
    """Print ``text`` and flush it, to "stdout" or "stderr"."""
    stream = getattr(sys, to)
    if stream is None:  # which it is where the descriptor was closed
        return
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        print(text, file=stream, flush=True)
    except Exception:
        discard(stream)


def warn_in_a_line(message, *where, **more):
    """`warnings.showwarning` for the command line."""
    say(f"minivae: warning: {message}", "stderr")


def flush_all():
    """Flush stdout and stderr while an error can still be caught."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except Exception:
            discard(stream)


def discard(stream):
    """Let what is left in a stream's buffer go nowhere, or it fails again at exit."""
    with suppress(Exception):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_missing_descriptors():
    """Point stdin, stdout and stderr nowhere where they are closed: else the next file
    gets the number, and what a library says to stderr is written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def progress_bar(*iterable, show, **settings):
    """A bar on stderr, if it is to be shown and if that is a terminal or a notebook."""
    try:
        place = sys.stderr.isatty() or "ipykernel" in sys.modules
    except (AttributeError, ValueError):  # there is none, or it is closed
        place = False
    return tqdm(*iterable, disable=not (show and place), **settings)
