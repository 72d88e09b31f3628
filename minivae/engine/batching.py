"""A batch in shards and chunks: which images a thread takes, and how many at a time.

A shard is one thread's images. A thread takes its shard in chunks of whole images, each
through the whole forward and backward pass: the coefficients of an image need only its
own K log-weights, and so a chunk's logits are still in the processor's cache in the
backward pass, and the (B, K, D) array of all logits never exists. A GPU has one shard,
and takes far larger chunks, mostly the whole batch.
"""

from itertools import pairwise
from math import ceil

import numpy as np

from .threads import count, each

SHARD_ROWS = 64  # rows of a shard below which another thread costs more than it gives
# 512 rows of 784 float32 logits are 1.6 MB: still in the cache in the backward pass. If
# that is subsampled, there is little to come back for, and fewer, larger products win.
# A GPU wants as much to do at once as there is memory for: 205 MB.
CHUNK_ROWS = {"all": 512, "single": 2560, "sparse": 2560}
GPU_CHUNK_ROWS = 65_536


def even_slices(start, stop, n):
    """``n`` slices of nearly equal length, from ``start`` to ``stop``."""
    edges = [start + (stop - start) * i // n for i in range(n + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def shards(start, stop, k, device="cpu"):
    """Images ``start`` to ``stop``, of ``k`` rows each, in a slice for each thread."""
    if device == "cuda":
        return [slice(start, stop)]
    n, rows = stop - start, (stop - start) * k
    return even_slices(start, stop, max(1, min(count(), n, rows // SHARD_ROWS)))


def chunks(shard, k, device="cpu", backward="all"):
    """The slice ``shard`` in slices of whole images, of about `CHUNK_ROWS` rows each
    and nearly equal in size.
    """
    rows = GPU_CHUNK_ROWS if device == "cuda" else CHUNK_ROWS[backward]
    n = shard.stop - shard.start
    return even_slices(shard.start, shard.stop, min(n, ceil(n * k / rows)))


def map_images(function, model, batch, k):
    """``function(images)`` of every chunk of a batch, (batch, ...), a thread a shard.

    Parameters
    ----------
    function : callable
        A slice of the batch's images -> an array (images, ...).
    """

    def on_shard(shard):
        return [function(images) for images in chunks(shard, k, model.device)]

    by_shard = each(on_shard, shards(0, batch, k, model.device))
    return np.concatenate([array for arrays in by_shard for array in arrays])


def sum_gradients(add_gradient, model, batch, k, backward="all"):
    """The gradient of a batch, by ``add_gradient(images, grads)`` of every chunk.

    Parameters
    ----------
    add_gradient : callable
        Adds the gradient of a slice of the batch's images to grads, and returns their
        values, (images,).

    Returns
    -------
    values : ndarray of shape (batch,)
    grads : Params
    """

    def on_shard(shard):
        grads = model.params.uninitialised_like()
        images_of = chunks(shard, k, model.device, backward)
        values = [add_gradient(images, grads) for images in images_of]
        return np.concatenate(values), grads

    by_shard = each(on_shard, shards(0, batch, k, model.device))
    values, (grads, *others) = zip(*by_shard)
    for other in others:
        grads.vector += other.vector
    return np.concatenate(values), grads
