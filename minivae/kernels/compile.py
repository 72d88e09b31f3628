"""How a numba kernel is compiled."""

import warnings

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
        compiled = numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # neither the package nor a home can be written to
        return numba.njit(**settings)(function)
    if cache := getattr(compiled, "_cache", None):  # without the compiler there is none
        cache.load_overload = or_anew(cache.load_overload, cache)
        cache.save_overload = or_anew(cache.save_overload, cache)
    return compiled


def or_anew(method, cache):
    """``method`` of a function's cache on disk; where that is damaged, as by a kill or
    a full disk, it is emptied, and the function compiled anew.
    """

    def call(*args):
        try:
            return method(*args)
        except Exception as error:  # unpickling raises nearly anything
            warnings.warn(
                f"{cache.cache_path}: Numba's cache there is damaged or cannot be"
                f" written ({type(error).__name__}): a kernel is compiled anew",
                stacklevel=2,
            )
        try:
            cache.flush()
        except OSError:
            cache.disable()
        return None

    return call
