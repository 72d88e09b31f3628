"""The hot kernels: one file each, every version side by side.

A kernel file holds, in this order: the equation and the loop nest in words; the
``numpy`` version, which is the reference and is written for the reader; the ``numba``
version, compiled at first use and cached on disk; and ``VERSIONS``, which maps a
version's name to its functions. The versions share no helper, so that one can be
checked against the other; only the dictionary joins them.

A file is self-contained because Numba's on-disk cache notices an edit in the file of a
function, but not one in another file that the function calls.
"""

import functools
import os
import threading

import numba

# OpenBLAS runs the matrix products on threads of its own. Numba's default layer keeps
# its idle threads spinning, and the two then fight for the cores; the threads of
# "workqueue" sleep. A layer that the user names is left alone.
if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = "workqueue"

NAMES = ("numpy", "numba")  # "cuda" takes its place here when the files hold it


def jit(**settings):
    """Numba's njit, cached on disk where there is a folder to write to.

    No kernel asks for fastmath: sums that LLVM may reorder came out differently from
    freshly compiled code than from the cache, and a resumed run would not be the same.
    """

    def decorate(function):
        try:
            return numba.njit(cache=True, error_model="numpy", **settings)(function)
        except RuntimeError:  # neither the package nor a home can be written to
            return numba.njit(error_model="numpy", **settings)(function)

    return decorate


LOCK = threading.Lock()


def one_at_a_time(function):
    """``function``, entered by one thread at a time: "workqueue" aborts on a second."""

    @functools.wraps(function)
    def locked(*args):
        with LOCK:
            return function(*args)

    return locked
