"""The hot kernels: one file each, every version side by side.

A kernel file holds, in this order: the equation and the loop nest in words; the
``numpy`` version, which is the reference and is written for the reader; the ``numba``
version, compiled at first use and cached on disk; the ``cuda`` version, compiled at
first use for the GPU that is there; and ``VERSIONS``, which maps a version's name to
its functions. The versions share no helper, so that one can be checked against the
other; only the dictionary joins them.

A numpy or numba kernel runs on the thread that calls it, and lets other threads run
meanwhile: which thread computes what is decided in one place, `minivae.threads`.

A file is self-contained because Numba's on-disk cache notices an edit in the file of a
function, but not one in another file that the function calls.
"""

from math import ceil

import numba
import numpy as np

NAMES = ("numpy", "numba")  # the versions for arrays in the host's memory


def jit(function):
    """Numba's njit without the GIL, cached on disk where there is a folder to write to.

    Of fastmath a kernel gets contraction alone, the fused multiply-add. Sums that LLVM
    may reorder came out differently from freshly compiled code than from the cache, and
    a resumed run would not be the same: where a sum should use the processor's vectors,
    its order is written out.
    """
    settings = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # neither the package nor a home can be written to
        return numba.njit(**settings)(function)


# Threads of a CUDA block, and the most blocks of a grid: a kernel goes on with the next
# stride of its loop where the grid ends. The simulator has a Python thread for each.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
THREADS, MOST_BLOCKS = (32, 4) if SIMULATED else (128, 65_535)


def blocks(n, each=THREADS):
    """How many blocks cover ``n`` items, ``each`` to a block."""
    return max(1, min(ceil(n / each), MOST_BLOCKS))


def device_empty(shape, dtype):
    """An array on the device. In the simulator the host's memory is the device's."""
    if SIMULATED:
        return np.empty(shape, dtype)
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "arrays on a GPU need CuPy: pip install 'minivae[cuda]'"
        ) from error
    return cupy.empty(shape, dtype)
