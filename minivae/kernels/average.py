"""The running average of a vector of parameters (eq. 11.7).

    for each element:
        average = decay * average + (1 - decay) * p

average changes in place. It starts at zero, so that 1 - decay^t corrects it, as Adam's
moments.

average, p (n,), float32 or float64
"""

from types import SimpleNamespace

from numba import cuda

from .compile import jit
from .device import MOST_BLOCKS, THREADS, blocks, every, launch


def average_numpy(average, p, decay):
    average[...] = decay * average + (1 - decay) * p  # eq. 11.7


@jit
def average_numba(average, p, decay):
    real = p.dtype.type  # scalars of the arrays' type: others make float64 of float32
    keep, add = real(decay), real(1 - decay)
    for i in range(p.size):
        average[i] = keep * average[i] + add * p[i]


@cuda.jit  # a thread for each parameter
def average_kernel(average, p, keep, add):
    for i in every(cuda.grid(1), p.size, MOST_BLOCKS * THREADS):
        average[i] = keep * average[i] + add * p[i]


def average_cuda(average, p, decay):
    keep, add = p.dtype.type(decay), p.dtype.type(1 - decay)
    launch(average_kernel, blocks(p.size), average, p, keep, add)


VERSIONS = {
    "numpy": SimpleNamespace(average=average_numpy),
    "numba": SimpleNamespace(average=average_numba),
    "cuda": SimpleNamespace(average=average_cuda),
}
