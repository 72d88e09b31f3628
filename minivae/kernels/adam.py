"""One step of Adam, uphill, on a vector of parameters (eqs. 11.1 to 11.4).

    for each element:
        m = beta1 * m + (1 - beta1) * g           running mean of the gradient
        v = beta2 * v + (1 - beta2) * g^2         running mean of its square
        p = p + learning_rate * (m / (1 - beta1^t))
                              / (sqrt(v / (1 - beta2^t)) + epsilon)

A moment that would be subnormal is set to zero: that of a gradient that has become zero
would end there and stay, and cost a hundred cycles at every step (chapter 24).

p, m and v change in place. Returned is whether all of v is finite: it is not where g is
not, or g^2. The plus sign is the only place where minivae knows that it maximises.

p, g, m, v (n,), float32 or float64; t = 1, 2, ... counts the steps
"""

from math import isinf, isnan, sqrt
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import (
    MOST_BLOCKS,
    THREADS,
    blocks,
    device_empty,
    device_number,
    every,
    launch,
)


@np.errstate(under="ignore")  # of a moment that fades away
def adam_numpy(p, g, m, v, t, learning_rate, beta1, beta2, epsilon):
    m[...] = beta1 * m + (1 - beta1) * g  # eq. 11.1
    v[...] = beta2 * v + (1 - beta2) * g**2  # eq. 11.2
    for moment in (m, v):
        moment[np.abs(moment) < np.finfo(p.dtype).tiny] = 0
    m_hat = m / (1 - beta1**t)  # eq. 11.3
    v_hat = v / (1 - beta2**t)
    p += learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)  # eq. 11.4
    return bool(np.isfinite(v).all())


@jit
def adam_numba(p, g, m, v, t, learning_rate, beta1, beta2, epsilon):
    real = p.dtype.type  # scalars of the arrays' type: others make float64 of float32
    decay1, decay2, eps = real(beta1), real(beta2), real(epsilon)
    one_minus_beta1, one_minus_beta2 = real(1 - beta1), real(1 - beta2)
    # the two corrections of eq. 11.3, folded into scalars
    scale1, scale2 = real(learning_rate / (1 - beta1**t)), real(1 / (1 - beta2**t))
    largest, tiny = real(np.finfo(p.dtype).max), real(np.finfo(p.dtype).tiny)
    finite, zero = True, real(0)
    for i in range(p.size):
        mean = decay1 * m[i] + one_minus_beta1 * g[i]
        square = decay2 * v[i] + one_minus_beta2 * g[i] * g[i]
        finite &= square <= largest  # which a NaN is not
        m[i] = zero if abs(mean) < tiny else mean
        v[i] = zero if square < tiny else square
        p[i] += scale1 * m[i] / (np.sqrt(v[i] * scale2) + eps)
    return finite


# cuda: a thread for each parameter. What depends on t alone is computed first, by one
# thread, and then in the arrays' type: a double among the scalars would make doubles of
# all the rest. t and learning_rate may be numbers on the device, as in a recorded step;
# ``finite`` is one, and whoever reads it waits for the step


@cuda.jit
def adam_scalars_kernel(t, learning_rate, beta1, beta2, epsilon, scalars, finite):
    if cuda.grid(1) == 0:
        count = np.float64(t[0])
        scalars[0], scalars[1] = beta1, 1 - beta1
        scalars[2], scalars[3] = beta2, 1 - beta2
        scalars[4] = learning_rate[0] / (1 - beta1**count)
        scalars[5] = 1 / (1 - beta2**count)
        scalars[6] = epsilon
        finite[0] = True


@cuda.jit
def adam_kernel(p, g, m, v, tiny, scalars, finite):
    decay1, one_minus_beta1 = scalars[0], scalars[1]
    decay2, one_minus_beta2 = scalars[2], scalars[3]
    scale1, scale2, eps = scalars[4], scalars[5], scalars[6]
    zero = p.dtype.type(0)
    for i in every(cuda.grid(1), p.size, MOST_BLOCKS * THREADS):
        mean = decay1 * m[i] + one_minus_beta1 * g[i]
        square = decay2 * v[i] + one_minus_beta2 * g[i] * g[i]
        if isnan(square) or isinf(square):
            finite[0] = False  # any thread, any number of times
        m[i] = zero if abs(mean) < tiny else mean
        v[i] = zero if square < tiny else square
        p[i] += scale1 * m[i] / (sqrt(v[i] * scale2) + eps)


def adam_cuda(p, g, m, v, t, learning_rate, beta1, beta2, epsilon):
    scalars, finite = device_empty(7, p.dtype), device_empty(1, np.bool_)
    t, rate = device_number(t, np.int64), device_number(learning_rate, np.float64)
    launch(adam_scalars_kernel, 1, t, rate, beta1, beta2, epsilon, scalars, finite)
    tiny = np.finfo(p.dtype).tiny
    launch(adam_kernel, blocks(p.size), p, g, m, v, tiny, scalars, finite)
    return finite


VERSIONS = {
    "numpy": SimpleNamespace(adam=adam_numpy),
    "numba": SimpleNamespace(adam=adam_numba),
    "cuda": SimpleNamespace(adam=adam_cuda),
}
