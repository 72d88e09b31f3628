"""How a numba kernel is compiled."""

import numba


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
