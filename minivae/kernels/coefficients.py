"""An estimator's coefficients in the arrays' type: zero where they are below rounding,
or so small that a product with them might be subnormal (eq. 21.6, and chapter 24).

    for each image, for each of its K samples:
        keep  = |theta| > step * (the image's largest |theta|), or the same of path
        coef  = theta where keep, else 0       of the parameters of p
        down  = path where keep, else 0        of what goes down through p to z
        path, score                            of log q's terms, whose rows are all kept
    each of the last four is 0 if |it| < least, and rounded to dtype

step is the dtype's rounding step by 2K, and least its smallest normal number by its
rounding step: what it is multiplied with, an array's numbers, may be small, too.

theta, path, score (B, K) float64 -> keep (B, K) bool, coef, down, path, score (B, K)
of ``dtype``
"""

from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import MOST_BLOCKS, THREADS, blocks, device_empty, every, launch


def coefficients_numpy(theta, path, score, dtype):
    keep = above_rounding(theta, path, dtype)
    coef, down = (np.where(keep, c, 0) for c in (theta, path))
    return keep, *(without_subnormals(c, dtype) for c in (coef, down, path, score))


def above_rounding(theta, path, dtype):
    """Which samples are large enough to change the sum over their image's samples when
    it is rounded to ``dtype``, (B, K).

    A sample is below rounding where both its coefficients are less than 1 / (2K)
    rounding steps of the largest of its image: all such samples together change
    the last digit of the image's sum at most (eqs. 21.6 and 21.7).
    """
    step = np.finfo(dtype).eps / (2 * theta.shape[1])
    a, b = np.abs(theta), np.abs(path)
    largest_a, largest_b = (c.max(axis=1, keepdims=True) for c in (a, b))
    return (a > step * largest_a) | (b > step * largest_b)  # eq. 21.6


def without_subnormals(coefficients, dtype):
    """``coefficients`` in ``dtype``, and 0 where their products could be subnormal:
    numbers on which a processor spends a hundred cycles each (chapter 24).
    """
    least = np.finfo(dtype).tiny / np.finfo(dtype).eps
    return np.where(np.abs(coefficients) < least, 0, coefficients).astype(dtype)


def coefficients_numba(theta, path, score, dtype):
    keep, out = np.empty(theta.shape, np.bool_), np.empty((4, *theta.shape), dtype)
    coefficients_loop(theta, path, score, *limits(theta, dtype), keep, out)
    return keep, *out


def limits(theta, dtype):
    """step and least."""
    least = np.finfo(dtype).tiny / np.finfo(dtype).eps
    return float(np.finfo(dtype).eps / (2 * theta.shape[1])), float(least)


@jit
def coefficients_loop(theta, path, score, step, least, keep, out):
    B, K = theta.shape
    for b in range(B):
        largest_theta = largest_path = 0.0
        for k in range(K):
            t, p = abs(theta[b, k]), abs(path[b, k])
            largest_theta = t if t > largest_theta or t != t else largest_theta
            largest_path = p if p > largest_path or p != p else largest_path
        for k in range(K):
            t, p, s = theta[b, k], path[b, k], score[b, k]
            kept = abs(t) > step * largest_theta or abs(p) > step * largest_path
            keep[b, k] = kept
            out[0, b, k] = t if kept and not abs(t) < least else 0.0
            out[1, b, k] = p if kept and not abs(p) < least else 0.0
            out[2, b, k] = 0.0 if abs(p) < least else p
            out[3, b, k] = 0.0 if abs(s) < least else s


# cuda: a block for each image, whose threads take every THREADS-th sample. Each thread
# finds the largest by itself: all of a warp read the same number at once, and there are
# not many


@cuda.jit
def coefficients_kernel(theta, path, score, step, least, keep, out):
    B, K = theta.shape
    for b in every(cuda.blockIdx.x, B, MOST_BLOCKS):
        largest_theta = largest_path = 0.0
        for k in every(0, K, 1):
            t, p = abs(theta[b, k]), abs(path[b, k])
            largest_theta = t if t > largest_theta or t != t else largest_theta
            largest_path = p if p > largest_path or p != p else largest_path
        for k in every(cuda.threadIdx.x, K, THREADS):
            t, p, s = theta[b, k], path[b, k], score[b, k]
            kept = abs(t) > step * largest_theta or abs(p) > step * largest_path
            keep[b, k] = kept
            out[0, b, k] = t if kept and not abs(t) < least else 0.0
            out[1, b, k] = p if kept and not abs(p) < least else 0.0
            out[2, b, k] = 0.0 if abs(p) < least else p
            out[3, b, k] = 0.0 if abs(s) < least else s


def coefficients_cuda(theta, path, score, dtype):
    keep = device_empty(theta.shape, np.bool_)
    out = device_empty((4, *theta.shape), dtype)
    arguments = theta, path, score, *limits(theta, dtype), keep, out
    launch(coefficients_kernel, blocks(len(theta), 1), *arguments)
    return keep, out[0], out[1], out[2], out[3]


VERSIONS = {
    "numpy": SimpleNamespace(coefficients=coefficients_numpy),
    "numba": SimpleNamespace(coefficients=coefficients_numba),
    "cuda": SimpleNamespace(coefficients=coefficients_cuda),
}
