"""Random numbers by counting: Philox 4x32-10 (Salmon et al. 2011; eqs. 23.1 to 23.3).

    for each image, for each block of four numbers:
        four words = Philox(key; counter = (block, image, step, stream))
        uniform    = word / 2^32, rounded down to 24 bits, so that it is below 1
        normal     = sqrt(-2 log u) cos(v), and the same with sin(v): two words each
        binarize   = 1 where uniform < the grey value of its pixel, else 0

A number depends on the key and its counter alone. So any thread can draw any image's
numbers, a GPU draws what a CPU does, and a run is resumed without a generator's state.

Number w of block j stands in column w * blocks + j of its image's row, so that
neighbours are computed alike. image is an index in the batch; stream holds the
epoch, too (`minivae.engine.noise`).

key, two words of 32 bits; images first ... first + B - 1; n numbers each -> (B, n)
float32, or of grey's type
"""

from functools import partial
from math import cos, log, sin, sqrt
from types import SimpleNamespace

import numpy as np
from numba import cuda

from .compile import jit
from .device import blocks, device_empty, device_number, launch


def philox_numpy(key, counter):
    """Ten rounds; ``counter`` is four broadcastable words, as is the result."""
    low = np.uint64(0xFFFFFFFF)
    k0, k1 = (np.uint64(word) for word in key)
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2  # eq. 23.1
        c0, c1 = (p1 >> np.uint64(32)) ^ c1 ^ k0, p1 & low
        c2, c3 = (p0 >> np.uint64(32)) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.broadcast_arrays(c0, c1, c2, c3)


def words_numpy(key, first, B, n, step, stream):
    images, blocks = np.arange(first, first + B)[:, None], np.arange((n + 3) // 4)
    return philox_numpy(key, (blocks, images, step, stream))


def uniform_numpy(key, first, B, n, step, stream):
    words = words_numpy(key, first, B, n, step, stream)
    u = [(word >> np.uint64(8)) * np.float64(2**-24) for word in words]  # eq. 23.2
    return np.concatenate(u, axis=1)[:, :n].astype(np.float32)


def binarize_numpy(key, first, grey, step, stream):
    u = uniform_numpy(key, first, *grey.shape, step, stream)
    return (u < grey).astype(grey.dtype)


def normal_numpy(key, first, B, n, step, stream):
    x = words_numpy(key, first, B, n, step, stream)
    z = []
    for u, v in ((x[0], x[1]), (x[2], x[3])):  # eq. 23.3
        r = np.sqrt(-2 * np.log((u + 0.5) * 2.0**-32))
        v = v * (2 * np.pi * 2.0**-32)
        z += [r * np.cos(v), r * np.sin(v)]
    return np.concatenate(z, axis=1)[:, :n].astype(np.float32)


@jit
def philox_numba(key, image, step, stream, words):
    """Philox's words of all the blocks of an image, (4, blocks) uint32."""
    low = np.uint64(0xFFFFFFFF)
    m0, m1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
    w0, w1, half = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85), np.uint64(32)
    for j in range(words.shape[1]):
        k0, k1 = np.uint64(key[0]), np.uint64(key[1])
        c0, c1, c2, c3 = np.uint64(j), np.uint64(image), np.uint64(step), stream
        for _ in range(10):
            p0, p1 = m0 * c0, m1 * c2
            c0, c1 = (p1 >> half) ^ c1 ^ k0, p1 & low
            c2, c3 = (p0 >> half) ^ c3 ^ k1, p0 & low
            k0, k1 = (k0 + w0) & low, (k1 + w1) & low
        words[0, j], words[1, j] = c0, c1
        words[2, j], words[3, j] = c2, c3


@jit
def uniform_numba(key, first, B, n, step, stream):
    blocks = (n + 3) // 4
    words = np.empty((4, blocks), np.uint32)
    flat, out = words.ravel(), np.empty((B, n), np.float32)
    for i in range(B):
        philox_numba(key, first + i, step, np.uint64(stream), words)
        for j in range(n):
            out[i, j] = np.float32(np.int32(flat[j] >> 8)) * np.float32(2**-24)
    return out


@jit
def binarize_numba(key, first, grey, step, stream):
    B, n = grey.shape
    x, one, zero = np.empty_like(grey), grey.dtype.type(1), grey.dtype.type(0)
    for i in range(B):
        u = uniform_numba(key, first + i, 1, n, step, stream)
        for j in range(n):
            x[i, j] = one if u[0, j] < grey[i, j] else zero
    return x


@jit
def normal_numba(key, first, B, n, step, stream):
    blocks = (n + 3) // 4
    words = np.empty((4, blocks), np.uint32)
    row, out = np.empty((4, blocks), np.float32), np.empty((B, n), np.float32)
    flat = row.ravel()
    for i in range(B):
        philox_numba(key, first + i, step, np.uint64(stream), words)
        for w in (0, 2):
            for j in range(blocks):
                r = np.sqrt(np.float32(-2) * log_float32(words[w, j]))
                c, s = cos_sin_float32(words[w + 1, j])
                row[w, j], row[w + 1, j] = r * c, r * s
        for j in range(n):
            out[i, j] = flat[j]
    return out


@jit
def log_float32(word):
    """log((word + 1/2) / 2^32), to 1e-7 of 1 + its size, in arithmetic alone.

    2^e * m with m in [sqrt(1/2), sqrt(2)): e is read from the exponent's bits, and
    log m = 2 artanh(s), s = (m - 1) / (m + 1), by its series.
    """
    # two exact halves: a float32 holds 24 bits
    high, low = np.float32(np.int32(word >> 16)), np.float32(np.int32(word & 0xFFFF))
    u = high * np.float32(65536) + (low + np.float32(0.5))
    bits = np.float32(u).view(np.int32)
    e = np.int32((bits - np.int32(0x3F3504F3)) >> 23)
    m = np.int32(bits - np.int32(e << 23)).view(np.float32)
    s = (m - np.float32(1)) / (m + np.float32(1))
    s2 = s * s
    p = np.float32(2 / 9)
    p = p * s2 + np.float32(2 / 7)
    p = p * s2 + np.float32(2 / 5)
    p = p * s2 + np.float32(2 / 3)
    p = p * s2 + np.float32(2)
    return np.float32(np.int32(e - 32)) * np.float32(0.6931472) + s * p


@jit
def cos_sin_float32(word):
    """cos and sin of 2 pi word / 2^32: the top bits are the quadrant, the rest an angle
    in [-pi/4, pi/4], by their series.
    """
    quadrant = ((word >> 29) + 1) >> 1 & 3
    rest = np.int32(np.uint32(word) - np.uint32(quadrant << 30))
    t = np.float32(rest) * np.float32(2 * np.pi * 2.0**-32)
    t2 = t * t
    s = np.float32(1 / 362880)
    s = s * t2 - np.float32(1 / 5040)
    s = s * t2 + np.float32(1 / 120)
    s = s * t2 - np.float32(1 / 6)
    s = s * t2 * t + t
    c = np.float32(1 / 40320)
    c = c * t2 - np.float32(1 / 720)
    c = c * t2 + np.float32(1 / 24)
    c = c * t2 - np.float32(1 / 2)
    c = c * t2 + np.float32(1)
    # a quarter turn swaps the two and turns a sign
    odd = quadrant & 1 != 0
    cos, sin = (s if odd else c), (c if odd else s)
    return (
        -cos if quadrant == 1 or quadrant == 2 else cos,
        -sin if quadrant >= 2 else sin,
    )


# cuda: a thread for each block of an image's numbers, which writes its four. step and
# stream are arrays of one number on the device, for the sake of recorded steps

UNIFORM, NORMAL, BINARIZE = range(3)


@cuda.jit
def noise_kernel(k0, k1, first, step, stream, kind, grey, out):
    B, n = out.shape
    in_row, low, half = (n + 3) // 4, np.uint64(0xFFFFFFFF), np.uint64(32)
    one, zero = out.dtype.type(1), out.dtype.type(0)
    for i in range(cuda.grid(1), B * in_row, cuda.gridsize(1)):
        b, j = i // in_row, i % in_row
        c0, c1 = np.uint64(j), first + np.uint64(b)
        c2, c3 = np.uint64(step[0]), np.uint64(stream[0])
        key0, key1 = k0, k1
        for _ in range(10):
            p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
            c0, c1 = (p1 >> half) ^ c1 ^ key0, p1 & low
            c2, c3 = (p0 >> half) ^ c3 ^ key1, p0 & low
            key0 = (key0 + np.uint64(0x9E3779B9)) & low
            key1 = (key1 + np.uint64(0xBB67AE85)) & low
        for w, u, v in ((0, c0, c1), (2, c2, c3)):
            if kind == NORMAL:
                angle = np.float32(np.float64(v) * (2 * np.pi * 2.0**-32))
                log_u = log(np.float32((np.float64(u) + 0.5) * 2.0**-32))
                r = sqrt(np.float32(-2) * log_u)
                left, right = r * cos(angle), r * sin(angle)
            else:
                unit = np.float32(2.0**-24)
                left = np.float32(np.int32(u >> np.uint64(8))) * unit
                right = np.float32(np.int32(v >> np.uint64(8))) * unit
            for d, number in ((w * in_row + j, left), ((w + 1) * in_row + j, right)):
                if d < n and kind == BINARIZE:
                    out[b, d] = one if number < grey[b, d] else zero
                elif d < n:
                    out[b, d] = number


def noise_cuda(kind, key, first, grey, step, stream, out):
    B, n = out.shape
    if n > 0:
        words = (np.uint64(word) for word in (*key, first))
        step, stream = (device_number(number, np.int64) for number in (step, stream))
        grid = blocks(B * ((n + 3) // 4))
        launch(noise_kernel, grid, *words, step, stream, kind, grey, out)
    return out


def draw_cuda(kind, key, first, B, n, step, stream):
    out = device_empty((B, n), np.float32)
    # out stands for grey, which is not read
    return noise_cuda(kind, key, first, out, step, stream, out)


def binarize_cuda(key, first, grey, step, stream):
    out = device_empty(grey.shape, grey.dtype)
    return noise_cuda(BINARIZE, key, first, grey, step, stream, out)


VERSIONS = {
    "numpy": SimpleNamespace(
        uniform=uniform_numpy, normal=normal_numpy, binarize=binarize_numpy
    ),
    "numba": SimpleNamespace(
        uniform=uniform_numba, normal=normal_numba, binarize=binarize_numba
    ),
    "cuda": SimpleNamespace(
        uniform=partial(draw_cuda, UNIFORM),
        normal=partial(draw_cuda, NORMAL),
        binarize=binarize_cuda,
    ),
}
