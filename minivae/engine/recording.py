"""Steps on a GPU, queued and recorded as a CUDA graph."""

import warnings
import weakref
from contextlib import contextmanager
from functools import cache

import numpy as np

from ..kernels import device
from ..kernels.device import on_host

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


@contextmanager
def products_aside(grads):
    """On a GPU, the products that `Params.add_product` adds to ``grads``, inside, are
    queued on a second stream: nothing waits for them, and so they fill what the chain
    of the backward pass leaves free. At the end the first stream waits for the second.
    """
    if on_host(grads.vector) or not hasattr(device.arrays(), "cuda"):
        yield
        return
    first, second = device.arrays().cuda.get_current_stream(), second_stream()
    products = []  # they hold their factors, whose memory must not have a new owner yet

    def aside(product):
        products.append(product)
        second.wait_event(first.record())
        with second:
            product()

    grads.aside = aside
    try:
        yield
    finally:
        del grads.aside
        first.wait_event(second.record())


@cache
def second_stream():
    """As `own_stream`."""
    return device.arrays().cuda.Stream(non_blocking=True)


def repeat(function, n, on):
    """``function(0)`` to ``function(n - 1)``, ``on`` a device. On a GPU the number is
    an array there, which the device counts up, so that the calls can be replayed.
    """
    if on == "cpu":
        for i in range(n):
            function(i)
        return
    number = device.to_device(np.zeros(1, np.int64))

    def step():
        function(number)
        np.add(number, 1, out=number)

    with queue():
        call = recorded(step)
        for _ in range(n):
            call()


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
