"""The log-weight of each sample under a standard normal prior (eq. 8.3).

    for each image, for each of its K samples:
        log_w = log_px + sum over latent units of (eps^2 - z^2) / 2 + log_sigma

It is log p(x|z) + log p(z) - log q(z|x) with log q written through eps: both densities
carry L/2 * log(2 pi), which cancels, and z - mu, the difference of two nearly equal
numbers when sigma is small, is never formed.

log_px (B, K) float64, z, eps (B, K, L), log_sigma (B, L) -> log_w (B, K) float64
"""

from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import MOST_BLOCKS, THREADS, blocks, device_empty, every, fold, launch


def log_weight_numpy(log_px, z, eps, log_sigma):
    # z^2 may be large, and what is left after the subtraction small
    z, eps, log_sigma = (a.astype(np.float64) for a in (z, eps, log_sigma))
    return log_px + ((eps**2 - z**2) / 2 + log_sigma[:, None, :]).sum(axis=2)  # eq. 8.3


@jit
def log_weight_numba(log_px, z, eps, log_sigma):
    B, K, L = eps.shape
    log_w = np.empty((B, K))
    for i in range(B):
        for k in range(K):
            total = 0.0
            for l in range(L):
                e, u = np.float64(eps[i, k, l]), np.float64(z[i, k, l])
                total += (e * e - u * u) / 2 + log_sigma[i, l]
            log_w[i, k] = log_px[i, k] + total
    return log_w


# cuda: LANES threads of a block for each sample, which take the latent units in turns
# and then halve their sums in shared memory. There are some fifty units, and a whole
# block would leave most of its threads idle

ROWS = 8  # of a block
LANES = THREADS // ROWS  # threads of a row


@cuda.jit
def log_weight_kernel(log_px, z, eps, log_sigma, log_w):
    sums = cuda.shared.array((ROWS, LANES), np.float64)
    B, K, L = eps.shape
    lane, row = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
    for i in every(cuda.blockIdx.x, B, MOST_BLOCKS):
        for first in range(ROWS * cuda.blockIdx.y, K, ROWS * MOST_BLOCKS):
            k, total = np.uint64(first + row), 0.0
            if k < np.uint64(K):  # the last block may have fewer; all wait below
                for l in every(lane, L, LANES):
                    e, u = np.float64(eps[i, k, l]), np.float64(z[i, k, l])
                    total += (e * e - u * u) / 2 + log_sigma[i, l]
            sums[row, lane] = total
            fold(sums, row, lane)
            if lane == 0 and k < np.uint64(K):
                log_w[i, k] = log_px[i, k] + sums[row, 0]
            cuda.syncthreads()  # before the next row's sums are written


def log_weight_cuda(log_px, z, eps, log_sigma):
    log_w, (B, K) = device_empty(log_px.shape, np.float64), log_px.shape
    arguments = log_px, z, eps, log_sigma, log_w
    launch(log_weight_kernel, (blocks(B, 1), blocks(K, ROWS)), *arguments)
    return log_w


VERSIONS = {
    "numpy": SimpleNamespace(log_weight=log_weight_numpy),
    "numba": SimpleNamespace(log_weight=log_weight_numba),
    "cuda": SimpleNamespace(log_weight=log_weight_cuda),
}
