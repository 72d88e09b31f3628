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

from . import jit


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


VERSIONS = {
    "numpy": SimpleNamespace(forward=log_weight_numpy),
    "numba": SimpleNamespace(forward=log_weight_numba),
}
