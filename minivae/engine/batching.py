"""A batch in shards and chunks: which images a thread takes, and how many at a time.

A shard is one thread's images. A thread takes its shard in chunks of whole images, each
through the whole forward and backward pass. It can, because the coefficients of an
image need only the K log-weights of that image; so the (B, K, D) array of all logits
never exists. A GPU has one shard, and takes far larger chunks, mostly the whole batch.
"""

from itertools import pairwise
from math import ceil

import numpy as np

from .recording import products_aside
from .threads import count, each

SHARD_ROWS = 64  # rows of a shard below which another thread costs more than it gives
# 1,280 rows of 784 float32 logits are 4 MB. With fewer, the products, the encoder's
# above all, become too small (measured); with more, there is little to gain, and the
# memory grows. A GPU wants as much to do at once as there is memory for: 205 MB.
CHUNK_ROWS = 1280
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


def chunks(shard, k, device="cpu"):
    """The slice ``shard`` in slices of whole images, of about `CHUNK_ROWS` rows each
    and nearly equal in size.
    """
    rows = GPU_CHUNK_ROWS if device == "cuda" else CHUNK_ROWS
    n = shard.stop - shard.start
    return even_slices(shard.start, shard.stop, min(n, ceil(n * k / rows)))


def map_images(function, model, batch, k):
    """``function(part)`` of every chunk of a batch, (batch, ...), a thread a shard.

    Parameters
    ----------
    function : callable
        A part of the batch, as a slice, -> an array (images of the part, ...).
    """

    def on_shard(shard):
        return [function(part) for part in chunks(shard, k, model.device)]

    by_shard = each(on_shard, shards(0, batch, k, model.device))
    return end_to_end([array for arrays in by_shard for array in arrays])


def sum_gradients(add, model, batch, k):
    """The gradient of a batch, by ``add(part, grads)`` of every chunk.

    Parameters
    ----------
    add : callable
        Adds the gradient of a part of the batch, a slice, to grads, and returns the
        values of its images.

    Returns
    -------
    values : ndarray of shape (batch,)
    grads : Params
    """

    def on_shard(shard):
        grads = model.params.uninitialised_like()
        values = []
        for part in chunks(shard, k, model.device):
            with products_aside(grads):
                values.append(add(part, grads))
        return end_to_end(values), grads

    by_shard = each(on_shard, shards(0, batch, k, model.device))
    values, (grads, *others) = zip(*by_shard)
    for other in others:  # grads.vector is all its arrays, end to end
        grads.vector += other.vector
    return end_to_end(values), grads


def end_to_end(arrays):
    """The arrays as one; a single one is not copied."""
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
