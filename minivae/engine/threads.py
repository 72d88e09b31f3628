"""One threading model: a batch is split into shards of images, one for each thread,
which takes its shard through the whole forward and backward pass on matrix products of
one thread (`minivae.engine.batching`).

So threads meet once a step, not at every product and every kernel, and no two thread
pools compete for a core. A batch too small to split stays on the calling thread, whose
products may then use all cores.

There is no setting of its own: as many threads are used as the BLAS may use, by
OMP_NUM_THREADS, by threadpoolctl or by ``minivae --threads``.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache

from threadpoolctl import ThreadpoolController

LOCK = threading.Lock()  # held while the BLAS is down to one thread


@cache
def controller():
    """The BLAS libraries that are loaded."""
    return ThreadpoolController().select(user_api="blas")


@cache
def pool():
    """The other threads; the calling one takes a shard itself."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="minivae")


def forget_threads():
    """A forked child has no threads, and none that would release the lock."""
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


def each(function, shards):
    """[function(shard) for shard in shards], a thread for each shard."""
    if len(shards) == 1:
        return [function(shards[0])]
    with LOCK, controller().limit(limits=1):
        # each with this thread's context, which holds np.errstate
        others = [
            pool().submit(copy_context().run, function, shard) for shard in shards[1:]
        ]
        try:
            first = function(shards[0])
        finally:  # no thread still writes when this call ends
            results = [other.exception() or other.result() for other in others]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [first, *results]
