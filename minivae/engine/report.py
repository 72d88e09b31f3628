"""What is said to a user, which never decides whether the work counts.

A reader who has seen enough, a full disk behind ``>`` or an encoding that lacks a
letter are no errors of a run: what cannot be printed is escaped, or goes nowhere.
"""

import os
import sys
import threading
from contextlib import contextmanager, suppress

from tqdm import tqdm

QUIET = threading.Event()  # set: only errors and warnings are said


def say(text, to="stdout"):
    """Print ``text`` and flush it, to "stdout" or "stderr"."""
    stream = getattr(sys, to)
    if stream is None:  # which it is where the descriptor was closed
        return
    if to == "stdout" and QUIET.is_set():
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


@contextmanager
def say_only_errors(quiet):
    """Say nothing else within, if ``quiet``."""
    if quiet:
        QUIET.set()
    try:
        yield
    finally:
        QUIET.clear()


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
    shown = show and has_place_for_bars() and not QUIET.is_set()
    return tqdm(*iterable, disable=not shown, **settings)


def say_without_bar(text, show):
    """A line on stderr, if progress is to be shown and there is no place for a bar."""
    if show and not has_place_for_bars() and not QUIET.is_set():
        say(text, "stderr")


def has_place_for_bars():
    """Whether stderr is a terminal or a notebook."""
    try:
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
