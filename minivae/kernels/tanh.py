"""A bias and the hyperbolic tangent, element by element, and their backward (eqs. 6.5
and 6.6).

    for each element of each row:  h  = tanh(a + b)
    and backward:                  da = dh * (1 - h * h)      which needs h, never a

The bias is added here, so that what a matrix product leaves is read once: a + b is
chapter 6's a.

a, h, dh, da (R, H), b (H,), float32 or float64. h may take a's memory, and da dh's: the
old values have done their work, and new memory would have to be fetched.
"""

from math import ceil, tanh
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import AT_ONCE, MOST_BLOCKS, THREADS, blocks, every, launch


def tanh_numpy(a, b):
    return np.tanh(a + b)  # eq. 6.5


def tanh_backward_numpy(dh, h):
    return dh * (1 - h * h)  # eq. 6.6


@jit
def tanh_float32(x):
    """tanh(x) to 4e-7: a ratio of two polynomials (the coefficients are Eigen's).

    Beyond +-7.9 it stays what it is there, 3e-7 from 1. Only arithmetic, so that LLVM
    can vectorise the loop that calls it: the library's tanh is a call for each element.
    """
    x = max(min(x, np.float32(7.90531110763549805)), np.float32(-7.90531110763549805))
    x2 = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * x2 + np.float32(2.00018790482477e-13)
    p = p * x2 + np.float32(-8.60467152213735e-11)
    p = p * x2 + np.float32(5.12229709037114e-08)
    p = p * x2 + np.float32(1.48572235717979e-05)
    p = p * x2 + np.float32(6.37261928875436e-04)
    p = p * x2 + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * x2 + np.float32(1.18534705686654e-04)
    q = q * x2 + np.float32(2.26843463243900e-03)
    q = q * x2 + np.float32(4.89352518554385e-03)
    return x * p / q


@jit
def tanh_numba(a, b):
    single = a.itemsize == 4
    R, H = a.shape
    for r in range(R):
        for i in range(H):
            t = a[r, i] + b[i]
            a[r, i] = tanh_float32(t) if single else np.tanh(t)
    return a


@jit
def tanh_backward_numba(dh, h):
    one, flat, h = h.dtype.type(1), dh.ravel(), h.ravel()
    for i in range(h.size):
        flat[i] *= one - h[i] * h[i]
    return dh


# cuda: forward, a thread for a unit of AT_ONCE rows, all of which it reads before it
# writes the first; backward, a thread for each element. Either way neighbours in memory
# are neighbours in a warp


@cuda.jit
def tanh_kernel(a, b):
    t = cuda.local.array(AT_ONCE, a.dtype)
    R, H = a.shape
    i = np.uint64(cuda.grid(1))
    for first in every(AT_ONCE * cuda.blockIdx.y, R, AT_ONCE * MOST_BLOCKS):
        if i < np.uint64(H):
            for s in every(0, AT_ONCE, 1):
                if first + s < np.uint64(R):
                    t[s] = a[first + s, i]
            bias = b[i]
            for s in every(0, AT_ONCE, 1):
                if first + s < np.uint64(R):
                    a[first + s, i] = tanh(t[s] + bias)


@cuda.jit
def tanh_backward_kernel(dh, h):
    one = h.dtype.type(1)
    for i in every(cuda.grid(1), h.size, MOST_BLOCKS * THREADS):
        dh[i] *= one - h[i] * h[i]


def tanh_cuda(a, b):
    R, H = a.shape
    launch(tanh_kernel, (ceil(H / THREADS), blocks(R, AT_ONCE)), a, b)
    return a


def tanh_backward_cuda(dh, h):
    launch(tanh_backward_kernel, blocks(h.size), dh.reshape(-1), h.reshape(-1))
    return dh


VERSIONS = {
    "numpy": SimpleNamespace(
        tanh=tanh_numpy,
        tanh_backward=tanh_backward_numpy,
    ),
    "numba": SimpleNamespace(
        tanh=tanh_numba,
        tanh_backward=tanh_backward_numba,
    ),
    "cuda": SimpleNamespace(
        tanh=tanh_cuda,
        tanh_backward=tanh_backward_cuda,
    ),
}
