"""Ctrl-C, heard between two steps."""

import signal
import threading
from contextlib import contextmanager

from .report import say

NOTHING_KEPT = "nothing is kept"  # ends the text of an interrupt where that is so


@contextmanager
def interruptible():
    """Yield a function: was Ctrl-C pressed? A second press interrupts at once.

    An interrupt in the midst of a step may land in Numba's compiler and be lost there.
    A handler that is not Python's, or that ignores Ctrl-C (nohup), is left alone.
    """
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before in (None, signal.SIG_IGN):
        yield pressed.is_set  # signals are the main thread's
        return

    def handler(signum, frame):
        pressed.set()
        signal.signal(signal.SIGINT, before)
        say("\nstopping soon; Ctrl-C again stops at once", "stderr")

    try:
        signal.signal(signal.SIGINT, handler)
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
