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
dlogits (B, K, D)
"""

from types import SimpleNamespace

import numpy as np
from numba import prange

from . import jit, one_at_a_time


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
# 784 = 14 * 56, and a product of at most 2^56 is far below the largest float32, 2^128.
GROUP = 56


@jit(parallel=True)
def bernoulli_numba(a, b, x):
    B, K, D = a.shape
    real = a.dtype.type  # a bare 1 would turn float32 into float64
    zero, one = real(0), real(1)
    log_px = np.empty((B, K))
    for row in prange(B * K):
        i, k = row // K, row % K
        total = 0.0
        for start in range(0, D, GROUP):
            part, product = zero, one
            for d in range(start, min(start + GROUP, D)):
                t = a[i, k, d] + b[d]
                part += x[i, d] * t - max(t, zero)
                product *= one + np.exp(-abs(t))
            total += part - np.log(product)
        log_px[i, k] = total
    return log_px


@jit(parallel=True)
def bernoulli_backward_numba(a, b, x):
    B, K, D = a.shape
    one = a.dtype.type(1)
    dlogits = np.empty_like(a)
    for row in prange(B * K):
        i, k = row // K, row % K
        for d in range(D):
            t = a[i, k, d] + b[d]
            e = np.exp(-abs(t))
            dlogits[i, k, d] = x[i, d] - (one if t >= 0 else e) / (one + e)
    return dlogits


VERSIONS = {
    "numpy": SimpleNamespace(
        forward=bernoulli_numpy,
        backward=bernoulli_backward_numpy,
    ),
    "numba": SimpleNamespace(
        forward=one_at_a_time(bernoulli_numba),
        backward=one_at_a_time(bernoulli_backward_numba),
    ),
}
