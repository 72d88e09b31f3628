"""The hot kernels: one file each, every version side by side.

A kernel file holds, in this order: the equation and the loop nest in words; the
``numpy`` version, which is the reference and is written for the reader; the ``numba``
version, compiled at first use and cached on disk; the ``cuda`` version, compiled at
first use for the GPU that is there; and ``VERSIONS``, which maps a version's name to
its functions. The versions share no helper, so that one can be checked against the
other; only the dictionary joins them. The matrix product alone is not ours.

A numpy or numba kernel runs on the thread that calls it, and lets other threads run
meanwhile: which thread computes what is decided in one place, `minivae.threads`.

What the cuda versions share is in `device`: arrays on the GPU, launches, graphs.

A file is self-contained because Numba's on-disk cache notices an edit in the file of a
function, but not one in another file that the function calls.
"""

import numba

NAMES = ("numpy", "numba")  # for arrays in the host's memory
DEVICES = {"cpu": NAMES, "cuda": ("cuda",)}  # and what each device can run
DEVICE_OF = {name: device for device, names in DEVICES.items() for name in names}


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
