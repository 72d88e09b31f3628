"""The GPU's side: arrays in its memory, and launches.

Arrays on the device are CuPy's. NumPy's own functions hand them on to CuPy (NEP 13 and
18), so layers, bounds and estimators are one text for host and device. What such a text
must not do is look at a number: the host would have to wait for the device.

Under Numba's simulator, NUMBA_ENABLE_CUDASIM=1, the host's memory is the device's.
"""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import ceil, prod

import numba
import numpy as np
from numba import cuda

# Threads of a block, and the most blocks of a grid: a kernel takes the next stride
# of its loop where the grid ends. A power of two, since a range divides by its step.
# The simulator has a Python thread for each.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
THREADS, MOST_BLOCKS = (32, 4) if SIMULATED else (128, 32_768)
AT_ONCE = 8  # numbers that a thread asks for before it waits for the first of them
if SIMULATED:  # these wait for each other by polling: let the turns be short
    sys.setswitchinterval(1e-4)
# Numba warns of grids under 128 blocks; some of ours are one, and nothing to wait for
numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
NO_DEVICE, NO_DRIVER = 100, (3, 35)  # of cudaError_t
# numba-cuda, up to 0.30.4, asks for a name that NumPy 2.5 removed: it has it while the
# file is imported that does so, and else no kernel would compile
if not SIMULATED and find_spec("numba_cuda") and not hasattr(np, "row_stack"):
    np.row_stack = np.vstack
    try:
        import_module("numba.cuda.np.arrayobj")
    finally:
        del np.row_stack


def blocks(n, each=THREADS):
    """How many blocks cover ``n`` items, ``each`` to a block."""
    return max(1, min(ceil(n / each), MOST_BLOCKS))


@cuda.jit(device=True, inline="always")
def every(first, n, step):
    """The numbers first, first + step, ... below ``n``: the items of a kernel's thread.

    They are unsigned. A signed index may count from an array's end, and at each access
    Numba would ask whether it does: more instructions than most kernels' own. What they
    are compared with must be unsigned, too, or Numba compares doubles.
    """
    return range(np.uint64(first), np.uint64(n), np.uint64(step))


@cuda.jit(device=True, inline="always")
def fold(sums, row, lane):
    """Add up each row of ``sums``, in a block's shared memory, into its first number.

    The upper half is added to the lower, and again, a thread for each number. All
    threads of the block take part, since each waits for all.
    """
    width = sums.shape[1] // 2
    while width > 0:
        cuda.syncthreads()
        if lane < width:
            sums[row, lane] += sums[row, lane + width]
        width //= 2


def arrays():
    """The module whose arrays are on the device."""
    if SIMULATED:
        return np
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "device 'cuda' needs CuPy and numba-cuda: pip install 'minivae[cuda]'"
        ) from error
    return cupy


def require_device():
    """Raise an error where no GPU can be used, which says in a line what is missing.

    Raises
    ------
    ModuleNotFoundError
        If a package is missing.
    OSError
        If the driver is missing or too old, or if there is no GPU.
    """
    if SIMULATED:
        return
    runtime = arrays().cuda.runtime
    try:
        count, status = runtime.getDeviceCount(), NO_DEVICE
    except runtime.CUDARuntimeError as error:
        count, status = 0, error.status
    if count == 0 and status in NO_DRIVER:
        raise OSError(
            "device 'cuda' needs NVIDIA's driver, which is missing or too old: install"
            " it from https://www.nvidia.com/drivers, then see what nvidia-smi says"
        )
    if count == 0:
        raise OSError(
            f"device 'cuda' finds no GPU (CUDA's error {status}): nvidia-smi lists what"
            " is there, and CUDA_VISIBLE_DEVICES may hide it; or use device 'cpu'"
        )
    why = numba_fails()
    if why is not None:
        raise ModuleNotFoundError(
            "device 'cuda' has a GPU, but Numba cannot use it: pip install"
            " 'minivae[cuda]', or set CUDA_HOME to the folder of an installed CUDA"
            f" ({' '.join(str(why).split())})"
        )


@cache
def numba_fails():
    """What keeps Numba from launching and compiling a kernel; None, if nothing does."""
    try:
        if not cuda.is_available():
            return cuda.cuda_error()
        cuda.compile_ptx_for_current_device(lambda: None, ())
    except Exception as error:  # of any of the libraries that a compiler needs
        return error
    return None


def to_device(array):
    """``array`` in the device's memory."""
    return arrays().asarray(array)


def to_host(array):
    """``array`` in the host's memory: a copy, if it was in the device's.

    A DataFrame has a ``get``, too, and is no array of the device.
    """
    on_device = hasattr(array, "get") and hasattr(array, "strides")
    return array.get() if on_device else np.asarray(array)


def on_host(array):
    """Whether ``array`` is NumPy's, so that a look at its numbers costs no wait."""
    return type(array) is np.ndarray


def device_empty(shape, dtype):
    """An array in the device's memory.

    Raises
    ------
    MemoryError
        If it does not fit: with its shape, its size, and what to lower.
    """
    try:
        return arrays().empty(shape, dtype)
    except MemoryError as error:
        size = prod(np.atleast_1d(shape)) * np.dtype(dtype).itemsize / 1e6
        raise MemoryError(
            f"the GPU has no memory left for an array of shape {shape},"
            f" {np.dtype(dtype)}, {size:,.1f} MB: lower the batch or k ({error})"
        ) from error


def device_number(value, dtype):
    """``value`` as an array (1,) on the device.

    What is on the device already stays where it is: a recorded kernel reads it anew
    each time. A number of the host's is recorded with it.
    """
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return value.astype(dtype, copy=False).reshape(1)
    number = device_empty(1, dtype)
    number[...] = value
    return number


def launch(kernel, n_blocks, *arguments):
    """Queue ``kernel`` on `THREADS` threads in each of ``n_blocks`` blocks, a number or
    one for each dimension of the grid.
    """
    if SIMULATED:
        kernel[n_blocks, THREADS](*arguments)
        return
    arguments = [
        as_numba(a) if hasattr(a, "__cuda_array_interface__") else a for a in arguments
    ]
    kernel[n_blocks, THREADS, numba_stream(stream_pointer())](*arguments)


def as_numba(array):
    """CuPy's ``array`` as Numba's. Its stream is left out: Numba would make an object
    of it, and wait for it.
    """
    interface = array.__cuda_array_interface__ | {"stream": None}
    return cuda.from_cuda_array_interface(interface, owner=array, sync=False)


@cache
def numba_stream(pointer):
    """Numba's object for a stream. Numba finds a launch that it has prepared by that
    object, so there is one for all times.
    """
    return cuda.external_stream(pointer) if pointer else 0


def stream_pointer():
    """CuPy's current stream, 0 for the default one."""
    return arrays().cuda.get_current_stream().ptr
