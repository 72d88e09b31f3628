"""One threading model: a batch is split into shards of images, one for each thread,
which takes its shard through the whole forward and backward pass on matrix products of
one thread (`minivae.engine.batching`).

So threads meet once a step, not at every product and every kernel, and no two thread
pools compete for a core. A batch too small to split stays on the calling thread, whose
products may then use all cores.

There is no setting of its own: as many threads are used as the BLAS may use, by
OMP_NUM_THREADS, by threadpoolctl or by ``minivae --threads``. The BLAS has that number
for the whole process, and it decides the last bits of a product. So of Python's threads
one computes at a time, unless each has one core only: no other sees the number changed.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import ContextVar, copy_context
from functools import cache, wraps

import numpy as np
from threadpoolctl import ThreadpoolController, threadpool_limits

LOCK = threading.Lock()  # held by the thread that computes with more than one core
COMPUTING = ContextVar("COMPUTING", default=False)  # whether this thread does
ASKED = []  # the number that `ask_for` was given last


@cache
def controller():
    """The BLAS libraries that are loaded."""
    return ThreadpoolController().select(user_api="blas")


@cache
def pool():
    """The other threads; the calling one takes a shard itself."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="minivae")


def wait_for_others():
    """Before a fork: amid another thread's step OpenBLAS may hang in it, and the child
    would keep the BLAS at one thread.
    """
    if not COMPUTING.get():
        LOCK.acquire()


def let_others_go_on():
    """After a fork, in the parent."""
    if not COMPUTING.get():
        LOCK.release()


def forget_threads():
    """A forked child has no threads, and none that would release the lock."""
    global LOCK
    LOCK = threading.Lock()
    pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=wait_for_others,
        after_in_parent=let_others_go_on,
        after_in_child=forget_threads,
    )


def ask_for(threads):
    """Use so many threads from now on, in the whole process."""
    ASKED[:] = [threads]
    threadpool_limits(threads)


def count():
    """How many threads a step may use: one within another's part."""
    if COMPUTING.get():
        return 1
    with LOCK:
        limits = [library.get_num_threads() for library in controller().lib_controllers]
    if not limits:  # a BLAS that threadpoolctl does not know, such as Accelerate
        variable = os.environ.get("OMP_NUM_THREADS", "")
        limits = ASKED or [int(variable) if variable.isdecimal() else os.cpu_count()]
    return min(limits)


def each(function, shards):
    """[function(shard) for shard in shards], a thread for each shard.

    What underflows in there may, whatever the caller has told NumPy.
    """
    if COMPUTING.get():
        return [function(shard) for shard in shards]
    # with one core there is nothing to share: then Python's threads run side by side
    lock = LOCK if len(shards) > 1 or count() > 1 else nullcontext()
    token = COMPUTING.set(True)
    try:
        with lock, np.errstate(under="ignore"):
            if len(shards) == 1:
                return [function(shards[0])]
            return on_threads(function, shards)
    finally:
        COMPUTING.reset(token)


def on_threads(function, shards):
    """`each` on the pool and this thread, the BLAS at one thread."""
    with controller().limit(limits=1):
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


def alone(function):
    """A decorator: ``function`` computes as a batch of one shard does in `each`."""

    @wraps(function)
    def call(*args, **settings):
        return each(lambda _: function(*args, **settings), [None])[0]

    return call
