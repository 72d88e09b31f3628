"""The reparameterised draw of a diagonal Gaussian (eq. 7.1), and its backward summed
over samples (eqs. 7.6 and 7.7).

    for each image, sample and latent unit:
        z = mu + exp(log_sigma) * eps
    backward, for each image and latent unit:
        dmu        = sum over k of [dz + (path + score) * eps / sigma]
        dlog_sigma = sum over k of [dz * sigma * eps + (path + score) * eps^2 - score]

dz is path[k] times the gradient of log p(x, z_k). What reaches mu and log_sigma through
log q(z|x) is the rest of each line: the plain gradient has score = -path, and all that
is left of the rest is -score.

mu, log_sigma (B, L), eps, z, dz (B, K, L), path, score (B, K) ->
dmu, dlog_sigma (B, L); one dtype throughout
"""

from math import ceil, exp
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import AT_ONCE, MOST_BLOCKS, THREADS, blocks, device_empty, every, launch


def reparameterize_numpy(mu, log_sigma, eps):
    return mu[:, None, :] + np.exp(log_sigma)[:, None, :] * eps  # eq. 7.1


def reparameterize_backward_numpy(dz, eps, log_sigma, path, score):
    sigma = np.exp(log_sigma)[:, None, :]  # (B, 1, L)
    both, score = (path + score)[:, :, None], score[:, :, None]  # (B, K, 1)
    dmu = (dz + both * eps / sigma).sum(axis=1)  # eq. 7.6
    dlog_sigma = (dz * sigma * eps + both * eps**2 - score).sum(axis=1)  # eq. 7.7
    return dmu, dlog_sigma


@jit
def reparameterize_numba(mu, log_sigma, eps):
    B, K, L = eps.shape
    z = np.empty_like(eps)
    for i in range(B):
        sigma = np.exp(log_sigma[i])
        for k in range(K):
            for l in range(L):
                z[i, k, l] = mu[i, l] + sigma[l] * eps[i, k, l]
    return z


@jit
def reparameterize_backward_numba(dz, eps, log_sigma, path, score):
    B, K, L = eps.shape
    dmu = np.zeros_like(log_sigma)
    dlog_sigma = np.zeros_like(log_sigma)
    for i in range(B):
        sigma = np.exp(log_sigma[i])
        for k in range(K):
            both = path[i, k] + score[i, k]
            for l in range(L):
                e = eps[i, k, l]
                dmu[i, l] += dz[i, k, l] + both * e / sigma[l]
                dlog_sigma[i, l] += (
                    dz[i, k, l] * sigma[l] * e + both * e * e - score[i, k]
                )
    return dmu, dlog_sigma


# cuda: of a block's threads, LANES neighbours take as many neighbouring latent units.
# Forward, each takes AT_ONCE samples, all of which it reads before it writes the first;
# backward, a group takes every PARTS-th sample, and the first group adds up all sums

LANES = 16
PARTS = THREADS // LANES


@cuda.jit
def reparameterize_kernel(mu, log_sigma, eps, z):
    e = cuda.local.array(AT_ONCE, eps.dtype)
    B, K, L = eps.shape
    lane, part = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
    l = np.uint64(LANES * cuda.blockIdx.x + lane)
    start = AT_ONCE * (PARTS * cuda.blockIdx.z + part)
    for b in every(cuda.blockIdx.y, B, MOST_BLOCKS):
        if l < np.uint64(L):
            for first in every(start, K, AT_ONCE * PARTS * MOST_BLOCKS):
                for s in every(0, AT_ONCE, 1):
                    if first + s < np.uint64(K):
                        e[s] = eps[b, first + s, l]
                m, sigma = mu[b, l], exp(log_sigma[b, l])
                for s in every(0, AT_ONCE, 1):
                    if first + s < np.uint64(K):
                        z[b, first + s, l] = m + sigma * e[s]


@cuda.jit
def reparameterize_backward_kernel(dz, eps, log_sigma, path, score, dmu, dlog_sigma):
    sums = cuda.shared.array((4, PARTS, LANES), eps.dtype)
    B, K, L = eps.shape
    lane, part = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
    l = np.uint64(LANES * cuda.blockIdx.x + lane)
    for b in every(cuda.blockIdx.y, B, MOST_BLOCKS):
        g = g_eps = by_eps = by_square = eps.dtype.type(0)
        if l < np.uint64(L):  # the last block has fewer; all wait below
            for k in every(part, K, PARTS):
                e, both = eps[b, k, l], path[b, k] + score[b, k]
                g += dz[b, k, l]
                g_eps += dz[b, k, l] * e
                by_eps += both * e
                by_square += both * e * e - score[b, k]
        sums[0, part, lane], sums[1, part, lane] = g, g_eps
        sums[2, part, lane], sums[3, part, lane] = by_eps, by_square
        cuda.syncthreads()
        if part == 0 and l < np.uint64(L):
            for other in range(1, PARTS):
                g += sums[0, other, lane]
                g_eps += sums[1, other, lane]
                by_eps += sums[2, other, lane]
                by_square += sums[3, other, lane]
            sigma = exp(log_sigma[b, l])
            dmu[b, l] = g + by_eps / sigma
            dlog_sigma[b, l] = g_eps * sigma + by_square
        cuda.syncthreads()  # before the next image's sums are written


def reparameterize_cuda(mu, log_sigma, eps):
    z, (B, K, L) = device_empty(eps.shape, eps.dtype), eps.shape
    grid = ceil(L / LANES), blocks(B, 1), blocks(K, AT_ONCE * PARTS)
    launch(reparameterize_kernel, grid, mu, log_sigma, eps, z)
    return z


def reparameterize_backward_cuda(dz, eps, log_sigma, path, score):
    dmu, dlog_sigma = (device_empty(log_sigma.shape, eps.dtype) for _ in range(2))
    arguments = dz, eps, log_sigma, path, score, dmu, dlog_sigma
    B, _, L = eps.shape
    grid = ceil(L / LANES), blocks(B, 1)
    launch(reparameterize_backward_kernel, grid, *arguments)
    return dmu, dlog_sigma


VERSIONS = {
    "numpy": SimpleNamespace(
        reparameterize=reparameterize_numpy,
        reparameterize_backward=reparameterize_backward_numpy,
    ),
    "numba": SimpleNamespace(
        reparameterize=reparameterize_numba,
        reparameterize_backward=reparameterize_backward_numba,
    ),
    "cuda": SimpleNamespace(
        reparameterize=reparameterize_cuda,
        reparameterize_backward=reparameterize_backward_cuda,
    ),
}
