"""Bernoulli log-likelihood of an image under K rows of logits (eqs. 8.4 to 8.6).

The decoder's last matrix product leaves a = h @ W; the bias is added here, so that the
logits a + b are read once.

    for each image, for each of its K samples:    one row of a
        log_px = sum over pixels of x * (a + b) - softplus(a + b)
    backward, with seed 1 per row:
        dlogits = x - sigmoid(a + b)

softplus(t) = max(t, 0) + log(1 + exp(-|t|)) never overflows, and no probability is
formed, clipped and logged.

a (B, K, D), b (D,), x (B, D) of zeros and ones -> log_px (B, K) float64;
dlogits (B, K, D), which may take a's memory: the old values have done their work
"""

from math import ceil, exp, log
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import (
    AT_ONCE,
    MOST_BLOCKS,
    THREADS,
    blocks,
    device_empty,
    every,
    fold,
    launch,
)


def bernoulli_numpy(a, b, x):
    logits = a + b  # (B, K, D)
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))  # eq. 8.5
    return (x[:, None, :] * logits - softplus).sum(axis=2, dtype=np.float64)  # eq. 8.4


def bernoulli_backward_numpy(a, b, x):
    logits = a + b  # (B, K, D)
    e = np.exp(-np.abs(logits))  # never overflows, and gives either side's sigmoid
    sigmoid = np.where(logits >= 0, 1, e) / (1 + e)
    return x[:, None, :] - sigmoid  # eq. 8.6


# log(1 + e1) + log(1 + e2) + ... = log((1 + e1)(1 + e2)...): one log for GROUP pixels.
# A product of at most 2^64 is far below the largest float32, 2^128.
GROUP = 64


@jit
def exp_float32(u):
    """exp(u) for u <= 0, to 2e-7 and to 4e-6 of itself: 2^y = 2^n * 2^f, with a whole n
    and f in [-1/2, 1/2].

    The polynomial is 2^f's of degree 6, with Taylor's coefficients log(2)^i / i!; the
    power of two is written into the exponent's bits. Only so can LLVM vectorise the
    loop that calls it: the library's exp is a call for each element.
    """
    y = max(u * np.float32(1.442695), np.float32(-126))
    n = np.floor(y + np.float32(0.5))
    f = y - n
    p = np.float32(1.5403530e-4)
    p = p * f + np.float32(1.3333558e-3)
    p = p * f + np.float32(9.6181291e-3)
    p = p * f + np.float32(5.5504109e-2)
    p = p * f + np.float32(2.4022651e-1)
    p = p * f + np.float32(6.9314718e-1)
    p = p * f + np.float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@jit
def bernoulli_numba(a, b, x):
    B, K, D = a.shape
    real, single = a.dtype.type, a.itemsize == 4
    zero, one = real(0), real(1)  # a bare 1 would turn float32 into float64
    log_px = np.empty((B, K))
    part, product = np.empty(D, a.dtype), np.empty(D, a.dtype)
    for i in range(B):
        for k in range(K):
            for d in range(D):
                t = a[i, k, d] + b[d]
                part[d] = x[i, d] * t - max(t, zero)
                u = -abs(t)
                product[d] = one + (exp_float32(u) if single else np.exp(u))
            # fold the row in half until each product holds up to GROUP pixels
            n = D
            while n * GROUP > D + GROUP:
                half = (n + 1) // 2
                for d in range(n - half):
                    part[d] += part[d + half]
                    product[d] *= product[d + half]
                n = half
            total = 0.0
            for d in range(n):
                total += part[d] - np.log(np.float64(product[d]))
            log_px[i, k] = total
    return log_px


@jit
def bernoulli_backward_numba(a, b, x):
    B, K, D = a.shape
    one, single = a.dtype.type(1), a.itemsize == 4
    for i in range(B):
        for k in range(K):
            for d in range(D):
                t = a[i, k, d] + b[d]
                u = -abs(t)
                e = exp_float32(u) if single else np.exp(u)
                a[i, k, d] = x[i, d] - (one if t >= 0 else e) / (one + e)
    return a


# cuda: forward, LANES threads of a block for each row, which take the pixels in turns
# and then halve their sums in shared memory; backward, a thread for a pixel of AT_ONCE
# samples, all of which it reads before it writes the first. The grid has a dimension
# for the images and one for their samples: a row's number would have to be divided by K

ROWS = 2  # of a block
LANES = THREADS // ROWS  # threads of a row


@cuda.jit
def bernoulli_kernel(a, b, x, log_px):
    sums = cuda.shared.array((ROWS, LANES), np.float64)
    B, K, D = a.shape
    lane, row = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
    zero, one = a.dtype.type(0), a.dtype.type(1)
    for i in every(cuda.blockIdx.x, B, MOST_BLOCKS):
        for first in range(ROWS * cuda.blockIdx.y, K, ROWS * MOST_BLOCKS):
            k, total = np.uint64(first + row), 0.0
            if k < np.uint64(K):  # the last block may have fewer; all wait below
                for start in range(0, D, GROUP * LANES):  # as above, one log for GROUP
                    part, product = zero, one
                    last = min(D, start + GROUP * LANES)
                    for d in every(start + lane, last, LANES):
                        t = a[i, k, d] + b[d]
                        part += x[i, d] * t - max(t, zero)
                        product *= one + exp(-abs(t))
                    total += part - log(product)
            sums[row, lane] = total
            fold(sums, row, lane)
            if lane == 0 and k < np.uint64(K):
                log_px[i, k] = sums[row, 0]
            cuda.syncthreads()  # before the next row's sums are written


@cuda.jit
def bernoulli_backward_kernel(a, b, x):
    t = cuda.local.array(AT_ONCE, a.dtype)
    B, K, D = a.shape
    one, d = a.dtype.type(1), np.uint64(cuda.grid(1))
    for i in every(cuda.blockIdx.y, B, MOST_BLOCKS):
        for first in every(AT_ONCE * cuda.blockIdx.z, K, AT_ONCE * MOST_BLOCKS):
            if d < np.uint64(D):
                for s in every(0, AT_ONCE, 1):
                    if first + s < np.uint64(K):
                        t[s] = a[i, first + s, d]
                bias, pixel = b[d], x[i, d]
                for s in every(0, AT_ONCE, 1):
                    e = exp(-abs(t[s] + bias))
                    p = (one if t[s] + bias >= 0 else e) / (one + e)
                    if first + s < np.uint64(K):
                        a[i, first + s, d] = pixel - p


def bernoulli_cuda(a, b, x):
    B, K, _ = a.shape
    log_px = device_empty((B, K), np.float64)
    launch(bernoulli_kernel, (blocks(B, 1), blocks(K, ROWS)), a, b, x, log_px)
    return log_px


def bernoulli_backward_cuda(a, b, x):
    B, K, D = a.shape
    grid = ceil(D / THREADS), blocks(B, 1), blocks(K, AT_ONCE)
    launch(bernoulli_backward_kernel, grid, a, b, x)
    return a


VERSIONS = {
    "numpy": SimpleNamespace(
        bernoulli=bernoulli_numpy,
        bernoulli_backward=bernoulli_backward_numpy,
    ),
    "numba": SimpleNamespace(
        bernoulli=bernoulli_numba,
        bernoulli_backward=bernoulli_backward_numba,
    ),
    "cuda": SimpleNamespace(
        bernoulli=bernoulli_cuda,
        bernoulli_backward=bernoulli_backward_cuda,
    ),
}
