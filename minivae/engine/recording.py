"""Steps on a GPU, queued and recorded as a CUDA graph."""

import warnings
import weakref
from contextlib import contextmanager
from functools import cache

from ..kernels import device

WARM = 2  # calls of a step before it is recorded: they compile, and fill the pool


@contextmanager
def queue():
    """Our own stream for what is inside, all of which is done at the end: CUDA's
    default stream cannot be recorded.
    """
    if not hasattr(device.arrays(), "cuda"):  # NumPy, under the simulator
        yield
        return
    device.arrays().cuda.get_current_stream().synchronize()
    with own_stream() as stream:
        try:
            yield
        finally:
            stream.synchronize()


@cache
def own_stream():
    """One for all times: CuPy's memory and cuBLAS's handle belong to a stream."""
    return device.arrays().cuda.Stream(non_blocking=True)


def recorded(step):
    """A function that does what ``step()`` does, from its third call on by replaying a
    CUDA graph: a hundred launches for the price of one.

    ``step`` takes no argument: it reads what changes, and writes what stays, in arrays
    on the device that it does not make. What it makes is gone with it, as a replay
    takes the same memory again. Where it cannot be recorded, a warning says why, and
    every call launches its kernels one by one.
    """
    if not hasattr(device.arrays(), "cuda"):
        return step
    cupy, calls = device.arrays(), 0
    # a graph keeps the addresses that it was recorded with: were their memory given to
    # others between two replays, a replay would overwrite theirs
    pool = cupy.cuda.MemoryPool()

    def eagerly():
        with cupy.cuda.using_allocator(pool.malloc):
            step()

    def record():
        stream = cupy.cuda.get_current_stream()
        stream.begin_capture()
        try:
            eagerly()
        finally:
            graph = stream.end_capture()
        return graph.launch

    run = eagerly

    def call():
        nonlocal calls, run
        calls += 1
        if calls == WARM + 1:
            try:
                run = record()
            except Exception as error:  # of CuPy, Numba, cuBLAS or CUDA
                # the first error says more than that a recording was broken off
                why = error.__context__ or error
                warnings.warn(
                    f"the step is not replayed as a CUDA graph: {why!r}", stacklevel=2
                )
        run()

    # the pool does not do so itself; when Python ends, CUDA may have ended before
    weakref.finalize(call, pool.free_all_blocks).atexit = False
    return call
