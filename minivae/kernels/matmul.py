"""The matrix product, which is not ours: the host's BLAS, and cuBLAS on a GPU.

    for each row of a, for each column of b:
        out = sum over i of a[row, i] * b[i, column]

Half of a training step and more is spent here, and no loop of ours is faster than the
libraries'. cuBLAS is called by its C interface, and not by CuPy's ``@``, because CuPy
refuses to call it while a step is recorded as a CUDA graph.

a (M, N), b (N, O), each in rows or the transpose of such -> out (M, O)
"""

import ctypes
from functools import cache
from types import SimpleNamespace

import numpy as np

from .device import SIMULATED, arrays, device_empty, stream_pointer


def matmul_numpy(a, b, out=None):
    return np.matmul(a, b, out=out)


# cuda: cuBLAS counts in columns, and so takes our rows for the transpose. It is asked
# for out' = b' a', and told of each factor whether it lies in memory as rows

WORKSPACE = 32 * 2**20  # bytes for cuBLAS to work in, as NVIDIA advises for Hopper


@cache
def library():
    """cuBLAS, from the package or from the CUDA that is installed."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except (ModuleNotFoundError, RuntimeError, OSError) as error:
        raise ModuleNotFoundError(
            "device 'cuda' needs NVIDIA's cuBLAS: pip install 'minivae[cuda]'"
        ) from error


@cache
def handle(stream):
    """cuBLAS's handle for a stream; and its workspace, to keep it."""
    cublas, pointer = library(), ctypes.c_void_p()
    with arrays().cuda.using_allocator():  # no pool's: a pool may be gone before it
        workspace = device_empty(WORKSPACE, np.uint8)
    memory = ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(WORKSPACE)
    succeed(cublas.cublasCreate_v2(ctypes.byref(pointer)))
    succeed(cublas.cublasSetStream_v2(pointer, ctypes.c_void_p(stream)))
    succeed(cublas.cublasSetWorkspace_v2(pointer, *memory))
    return pointer, workspace


def succeed(status):
    """An error, unless ``status`` is cuBLAS's 0."""
    if status:
        raise RuntimeError(f"cuBLAS failed with status {status}")


def layout(a):
    """cuBLAS's flag, 0 if ``a`` lies in memory as rows and 1 if as columns, and its
    leading dimension: how many numbers from one row, or column, to the next.
    """
    rows, columns = a.shape
    down, right = (stride // a.itemsize for stride in a.strides)
    if right == 1:
        return 0, max(down, columns)  # of a single row, down may be anything
    if down == 1:
        return 1, max(right, rows)
    raise ValueError(f"a factor must lie in rows or in columns; got {a.strides} bytes")


def matmul_cuda(a, b, out=None):
    if a.ndim == 1:  # one row
        out = None if out is None else out.reshape(1, -1)
        return matmul_cuda(a.reshape(1, -1), b, out).reshape(-1)
    if a.dtype != b.dtype:  # or cuBLAS would read the one as if it were the other
        raise TypeError(f"factors of two types, {a.dtype} and {b.dtype}")
    (M, N), (_, O) = a.shape, b.shape
    if out is None:
        out = device_empty((M, O), a.dtype)
    if min(M, N) == 0:  # a sum of nothing, where a step keeps no sample
        out[...] = 0
        return out
    single, cublas = a.dtype == np.float32, library()
    gemm = cublas.cublasSgemm_v2 if single else cublas.cublasDgemm_v2
    real = ctypes.c_float if single else ctypes.c_double
    one, zero = ctypes.byref(real(1)), ctypes.byref(real(0))
    (columns_a, step_a), (columns_b, step_b) = layout(a), layout(b)
    at_a, at_b, at_out = (ctypes.c_void_p(array.data.ptr) for array in (a, b, out))
    pointer, _ = handle(stream_pointer())
    of_b, of_a, of_out = (at_b, step_b), (at_a, step_a), (at_out, O)
    # out' = one * b' a' + zero * out'
    factors = columns_b, columns_a, O, M, N, one, *of_b, *of_a, zero
    succeed(gemm(pointer, *factors, *of_out))
    return out


VERSIONS = {
    "numpy": SimpleNamespace(matmul=matmul_numpy),
    "numba": SimpleNamespace(matmul=matmul_numpy),
    # the simulator has no cuBLAS
    "cuda": SimpleNamespace(matmul=matmul_numpy if SIMULATED else matmul_cuda),
}
