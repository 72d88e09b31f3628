"""Noise by counter: each number is a function of (seed, epoch, step), the stream, the
image and its index there. So a run needs no generator's state, and it does not matter
which thread draws, or how many there are (chapter 23).

step may be a number on the device (`minivae.kernels.device`), and epoch what
`words_of_epoch` makes of it, there.
"""

from functools import cache
from math import prod

import numpy as np

PIXELS, SUBSAMPLING = 0, 255  # streams; stream l is the eps of layer l


@cache
def seed_key(seed):
    """The key of all the numbers of a seed: two words of 32 bits."""
    return tuple(int(word) for word in np.random.SeedSequence(seed).generate_state(2))


def generator(seed, *key):
    """A generator; ``key``, whole numbers, is a spawn key, which never collides."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def words_of_epoch(epoch):
    """The counter's last word for each stream, (256,): an epoch as a recorded step has
    it, to which each operation is another launch.
    """
    return epoch << 8 | np.arange(256)


def word_of(epoch, stream):
    """The counter's last word: the epoch and the stream."""
    return epoch << 8 | stream if isinstance(epoch, int) else epoch[stream]


def uniform(ops, seed, epoch, step, stream, images, shape):
    """Numbers in [0, 1) for each of ``images``, a slice: (B, *shape) float32."""
    return draw(ops.uniform, seed, epoch, step, stream, images, shape)


def normal(ops, seed, epoch, step, stream, images, shape):
    """Standard normal numbers for each of ``images``, a slice: (B, *shape) float32."""
    return draw(ops.normal, seed, epoch, step, stream, images, shape)


def binarize(ops, seed, epoch, step, images, grey):
    """Ones with the probabilities ``grey`` (B, D), else zeros, of its type."""
    word = word_of(epoch, PIXELS)
    return ops.binarize(seed_key(seed), images.start, grey, step, word)


def draw_eps(model, seed, epoch, step, images, k):
    """Each layer's eps by its counter, a list of (B, k, L): `VAE.draw_eps` without a
    generator.
    """
    return [
        normal(
            model.ops, seed, epoch, step, stream=l, images=images, shape=(k, L)
        ).astype(model.dtype, copy=False)
        for l, L in enumerate(model.latent_dims, start=1)
    ]


def draw(kernel, seed, epoch, step, stream, images, shape):
    """``kernel``'s numbers for a slice of images, (B, *shape)."""
    key, B, n = seed_key(seed), images.stop - images.start, prod(shape)
    numbers = kernel(key, images.start, B, n, step, word_of(epoch, stream))
    return numbers.reshape(B, *shape)
