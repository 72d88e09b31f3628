"""Noise by place: each number is a function of (seed, epoch, step), the stream, the
image and its place there. So a run needs no generator's state, and it does not matter
which thread draws, or how many there are (chapter 23).

epoch and step may be numbers on the device (`minivae.kernels.device`).
"""

from functools import cache
from math import prod

import numpy as np

from .kernels import noise as noise_kernel

PIXELS, THINNING = 0, 255  # streams; stream l is the eps of layer l


@cache
def seed_key(seed):
    """The key of all the numbers of a seed: two words of 32 bits."""
    return tuple(int(word) for word in np.random.SeedSequence(seed).generate_state(2))


def uniform(seed, epoch, step, stream, images, shape, kernels):
    """Numbers in [0, 1) for each of ``images``, a slice: (B, *shape) float32."""
    draw = noise_kernel.VERSIONS[kernels].uniform
    return by_place(draw, seed, epoch, step, stream, images, shape)


def normal(seed, epoch, step, stream, images, shape, kernels):
    """Standard normal numbers for each of ``images``, a slice: (B, *shape) float32."""
    draw = noise_kernel.VERSIONS[kernels].normal
    return by_place(draw, seed, epoch, step, stream, images, shape)


def binarize(seed, epoch, step, images, grey, kernels):
    """Ones with the probabilities ``grey`` (B, D), else zeros, of its type."""
    draw = noise_kernel.VERSIONS[kernels].binarize
    key, stream = seed_key(seed), epoch << 8 | PIXELS
    return draw(key, images.start, grey, step, stream)


def draw_eps(seed, epoch, step, images, k, latent_dims, dtype, kernels):
    """Each layer's eps by its place, a list of (B, k, L): `VAE.draw_eps` without a
    generator.
    """
    shapes = [(k, L) for L in latent_dims]
    return [
        normal(seed, epoch, step, l, images, shape, kernels).astype(dtype, copy=False)
        for l, shape in enumerate(shapes, start=1)
    ]


def by_place(draw, seed, epoch, step, stream, images, shape):
    B = images.stop - images.start
    place = seed_key(seed), images.start, B, prod(shape), step, epoch << 8 | stream
    return draw(*place).reshape(B, *shape)
