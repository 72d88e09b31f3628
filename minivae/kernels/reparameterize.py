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

from math import exp
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import blocks, device_empty, launch


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


# cuda: forward, a thread for each number drawn; backward, a thread for each image and
# latent unit, which sums over its K samples. Neighbours in a warp are neighbours in l


@cuda.jit
def reparameterize_kernel(mu, log_sigma, eps, z):
    B, K, L = eps.shape
    for i in range(cuda.grid(1), B * K * L, cuda.gridsize(1)):
        row = i // L
        b, k, l = row // K, row % K, i % L
        z[b, k, l] = mu[b, l] + exp(log_sigma[b, l]) * eps[b, k, l]


@cuda.jit
def reparameterize_backward_kernel(dz, eps, log_sigma, path, score, dmu, dlog_sigma):
    B, K, L = eps.shape
    for i in range(cuda.grid(1), B * L, cuda.gridsize(1)):
        b, l = i // L, i % L
        sigma = exp(log_sigma[b, l])
        to_mu = to_log_sigma = eps.dtype.type(0)
        for k in range(K):
            e, both = eps[b, k, l], path[b, k] + score[b, k]
            to_mu += dz[b, k, l] + both * e / sigma
            to_log_sigma += dz[b, k, l] * sigma * e + both * e * e - score[b, k]
        dmu[b, l], dlog_sigma[b, l] = to_mu, to_log_sigma


def reparameterize_cuda(mu, log_sigma, eps):
    z = device_empty(eps.shape, eps.dtype)
    launch(reparameterize_kernel, blocks(z.size), mu, log_sigma, eps, z)
    return z


def reparameterize_backward_cuda(dz, eps, log_sigma, path, score):
    dmu, dlog_sigma = (device_empty(log_sigma.shape, eps.dtype) for _ in range(2))
    arguments = dz, eps, log_sigma, path, score, dmu, dlog_sigma
    launch(reparameterize_backward_kernel, blocks(dmu.size), *arguments)
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
