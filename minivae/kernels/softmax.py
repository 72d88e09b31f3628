"""Log-sum-exp and softmax over the K log-weights of each image (eqs. 8.7 and 8.8).

    for each image:                               one row of log_w
        m      = the largest log-weight           so that exp never overflows
        s      = sum over k of exp(log_w[k] - m)  at least 1
        lse    = m + log s
        w_norm = exp(log_w[k] - m) / s

A row that is -inf throughout has lse = -inf and w_norm = 0: no sample explains the
image, so none gets a gradient.

log_w (B, K) float64 -> lse (B,), w_norm (B, K) float64
"""

from math import exp, inf, log
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import MOST_BLOCKS, SIMULATED, THREADS, blocks, device_empty, every, launch


def softmax_numpy(log_w):
    m = log_w.max(axis=1, keepdims=True)  # (B, 1)
    m[m == -np.inf] = 0.0  # exp(-inf - 0) = 0, where exp(-inf + inf) would be NaN
    u = np.exp(log_w - m)  # (B, K)
    s = u.sum(axis=1, keepdims=True)  # (B, 1)
    with np.errstate(divide="ignore"):  # log 0 = -inf is what we want to say
        lse = m + np.log(s)  # eq. 8.7
    return lse[:, 0], u / np.where(s == 0.0, 1.0, s)  # eq. 8.8


@jit
def softmax_numba(log_w):
    B, K = log_w.shape
    lse = np.empty(B)
    w_norm = np.empty((B, K))
    for b in range(B):
        m = log_w[b, 0]
        for k in range(K):
            if log_w[b, k] > m:
                m = log_w[b, k]
        if m == -np.inf:
            m = 0.0
        s = 0.0
        for k in range(K):
            w_norm[b, k] = np.exp(log_w[b, k] - m)
            s += w_norm[b, k]
        lse[b] = m + np.log(s)
        for k in range(K):
            w_norm[b, k] = w_norm[b, k] / s if s != 0.0 else 0.0
    return lse, w_norm


# cuda, a ladder of three. Each step computes the same and says what changed, and why


@cuda.jit
def softmax_kernel_1(log_w, lse, w_norm):
    """One thread a row: the loop of the numba version, a row for each thread.

    Neighbours in a warp read numbers that are K apart: each its own line of memory.
    """
    B, K = log_w.shape
    for b in every(cuda.grid(1), B, MOST_BLOCKS * THREADS):
        m = log_w[b, 0]
        for k in every(0, K, 1):
            if log_w[b, k] > m:
                m = log_w[b, k]
        if m == -inf:
            m = 0.0
        s = 0.0
        for k in every(0, K, 1):
            w_norm[b, k] = exp(log_w[b, k] - m)
            s += w_norm[b, k]
        lse[b] = m + log(s) if s != 0.0 else -inf
        for k in every(0, K, 1):
            w_norm[b, k] = w_norm[b, k] / s if s != 0.0 else 0.0


@cuda.jit
def softmax_kernel_2(log_w, lse, w_norm):
    """One block a row: its threads take every THREADS-th number, and halve their maxima
    and then their sums in shared memory.

    Neighbours now read neighbours, and a row is no longer one thread's work.
    """
    shared = cuda.shared.array(THREADS, np.float64)
    B, K = log_w.shape
    thread = cuda.threadIdx.x
    for b in every(cuda.blockIdx.x, B, MOST_BLOCKS):
        m = -inf
        for k in every(thread, K, THREADS):
            a = log_w[b, k]
            m = a if a > m or a != a else m  # a NaN stays, as it would in a sum
        shared[thread] = m
        width = THREADS // 2
        while width > 0:
            cuda.syncthreads()
            if thread < width:
                m, a = shared[thread], shared[thread + width]
                shared[thread] = a if a > m or a != a else m
            width //= 2
        cuda.syncthreads()
        m = shared[0]
        if m == -inf:
            m = 0.0
        cuda.syncthreads()  # all have read the maximum
        s = 0.0
        for k in every(thread, K, THREADS):
            w_norm[b, k] = exp(log_w[b, k] - m)
            s += w_norm[b, k]
        shared[thread] = s
        width = THREADS // 2
        while width > 0:
            cuda.syncthreads()
            if thread < width:
                shared[thread] += shared[thread + width]
            width //= 2
        cuda.syncthreads()
        s = shared[0]
        for k in every(thread, K, THREADS):
            w_norm[b, k] = w_norm[b, k] / s if s != 0.0 else 0.0
        if thread == 0:
            lse[b] = m + log(s) if s != 0.0 else -inf
        cuda.syncthreads()  # before the next row's maxima are written


@cuda.jit
def softmax_kernel_3(log_w, lse, w_norm):
    """One warp a row: its 32 threads exchange maxima and sums by shuffles.

    A shuffle waits for its own warp only, and registers need no shared memory. In
    training K is a few warps' width at most.
    """
    B, K = log_w.shape
    lane, warps = cuda.threadIdx.x % 32, THREADS // 32
    first = cuda.blockIdx.x * warps + cuda.threadIdx.x // 32
    for b in every(first, B, MOST_BLOCKS * warps):
        m = -inf
        for k in every(lane, K, 32):
            a = log_w[b, k]
            m = a if a > m or a != a else m  # a NaN stays, as it would in a sum
        width = 16
        while width > 0:
            a = cuda.shfl_xor_sync(0xFFFFFFFF, m, width)
            m = a if a > m or a != a else m
            width //= 2
        if m == -inf:
            m = 0.0
        s = 0.0
        for k in every(lane, K, 32):
            w_norm[b, k] = exp(log_w[b, k] - m)
            s += w_norm[b, k]
        width = 16
        while width > 0:
            s += cuda.shfl_xor_sync(0xFFFFFFFF, s, width)
            width //= 2
        for k in every(lane, K, 32):
            w_norm[b, k] = w_norm[b, k] / s if s != 0.0 else 0.0
        if lane == 0:
            lse[b] = m + log(s) if s != 0.0 else -inf


def softmax_by(kernel, rows_per_block):
    """The function that launches a kernel of the ladder."""

    def forward(log_w):
        B, _ = log_w.shape
        lse, w_norm = device_empty(B, np.float64), device_empty(log_w.shape, np.float64)
        launch(kernel, blocks(B, rows_per_block), log_w, lse, w_norm)
        return lse, w_norm

    return forward


VERSIONS = {
    "numpy": SimpleNamespace(softmax=softmax_numpy),
    "numba": SimpleNamespace(softmax=softmax_numba),
    "cuda_1": SimpleNamespace(softmax=softmax_by(softmax_kernel_1, THREADS)),
    "cuda_2": SimpleNamespace(softmax=softmax_by(softmax_kernel_2, 1)),
    "cuda_3": SimpleNamespace(softmax=softmax_by(softmax_kernel_3, THREADS // 32)),
}
# the simulator has no shuffles
VERSIONS["cuda"] = VERSIONS["cuda_2" if SIMULATED else "cuda_3"]
