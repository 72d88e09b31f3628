"""One threading model: a minibatch's images are shared among threads, and each thread
goes all the way with its share, on matrix products of one thread.

So threads meet once a step, not at every product and every kernel, and no two thread
pools compete for a core. A minibatch too small to share stays on the calling thread,
whose products may then use all cores.

There is no setting of its own: as many threads are used as the BLAS may use, by
OMP_NUM_THREADS, by threadpoolctl or by ``minivae --threads``.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from itertools import pairwise

from threadpoolctl import ThreadpoolController

SHARE_ROWS = 64  # rows of a share below which another thread costs more than it gives
LOCK = threading.Lock()  # held while the BLAS is down to one thread


@cache
def controller():
    """The BLAS libraries that are loaded."""
    return ThreadpoolController().select(user_api="blas")


@cache
def pool():
    """The other threads; the calling one takes a share itself."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="minivae")


def forget_threads():
    """A forked child has none, and nobody who would release the lock."""
    global LOCK
    LOCK = threading.Lock()
    pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


def count():
    """How many threads a step may use."""
    with LOCK:
        limits = [library.get_num_threads() for library in controller().lib_controllers]
    return min(limits) if limits else os.cpu_count()


def shares(start, stop, K):
    """Images ``start`` to ``stop`` in slices, one per thread, of `SHARE_ROWS` or more
    rows each.
    """
    B = stop - start
    return even_slices(start, stop, max(1, min(count(), B, B * K // SHARE_ROWS)))


def even_slices(start, stop, n):
    """``n`` slices of nearly equal length, from ``start`` to ``stop``."""
    edges = [start + (stop - start) * i // n for i in range(n + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def each(function, parts):
    """[function(part) for part in parts], a thread for each part."""
    if len(parts) == 1:
        return [function(parts[0])]
    with LOCK, controller().limit(limits=1):
        # each with this thread's context, which holds np.errstate
        others = [
            pool().submit(copy_context().run, function, part) for part in parts[1:]
        ]
        try:
            first = function(parts[0])
        finally:  # nobody still writes when this call ends
            results = [other.exception() or other.result() for other in others]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [first, *results]
