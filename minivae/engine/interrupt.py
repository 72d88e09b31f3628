"""Ctrl-C, heard between two steps."""

import signal
import sys
import threading
from contextlib import contextmanager


@contextmanager
def interruptible():
    """Yield a function: was Ctrl-C pressed? A second press interrupts at once.

    An interrupt in the midst of a step may land in Numba's compiler and be lost there.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # signals are the main thread's
        return

    def handler(signum, frame):
        pressed.set()
        signal.signal(signal.SIGINT, before)
        print("\nstopping soon; Ctrl-C again stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
