"""Which samples go through the decoder's backward pass: those that are not below
rounding (`minivae.kernels.coefficients`), or fewer of them by chance, with the same
mean (chapter 21).
"""

import numpy as np

MOST_KEPT = 0.9  # of the rows: if more are kept, none is left out


def kept_rows(keep, theta):
    """The rows of p's backward pass, from ``keep`` (B, K); and theta, which only a
    GPU's version of this function changes (`minivae.engine.gpu.rows_of_capacity`).

    Where nearly all are kept, all are: to copy them would cost more than to compute the
    few others.

    Returns
    -------
    rows : ndarray of int, or slice(None) for all
    theta : ndarray of shape (B, K)
    """
    (rows,) = keep.ravel().nonzero()
    return (slice(None) if len(rows) > MOST_KEPT * keep.size else rows), theta


def take_rows(cache, rows):
    """The same rows of every array in a nest of dictionaries, tuples and lists."""
    if isinstance(cache, dict):
        return {key: take_rows(value, rows) for key, value in cache.items()}
    if isinstance(cache, (tuple, list)):
        return [take_rows(value, rows) for value in cache]
    return cache[rows]


def in_their_places(part, rows, n):
    """``part``, the given rows of (n, L), among zeros for the others."""
    if isinstance(rows, slice):  # all of them
        return part
    whole = np.zeros_like(part, shape=(n, *part.shape[1:]))
    whole[rows] = part
    return whole


def subsampled(estimator, backward, tau, uniform):
    """``estimator`` with fewer samples in the backward pass (see `subsample`)."""

    def with_fewer_samples(bound, log_w):
        value, theta, path, score = estimator(bound, log_w)
        scale = subsample(theta, path, backward, tau=tau, uniform=uniform)
        # if score = -path, terms of size eps / sigma cancel between the two (chapter
        # 7): both must be scaled alike, or these stay as noise
        score = np.where(score == -path, scale * score, score)  # eq. 21.4
        return value, scale * theta, scale * path, score

    return with_fewer_samples


def subsample(theta, path, backward, *, tau, uniform):
    """Fewer samples in the backward pass, with the same mean.

    "sparse" keeps sample k with probability min(1, a[k] / tau), where a[k] is the
    larger of abs(theta[k]) and abs(path[k]); "single" keeps one, drawn in proportion to
    a[k] (for `iwae` the remark of Burda et al. 2016, section 3). What is kept is
    divided by its probability; what is not is zero (eqs. 21.1 and 21.2).

    Parameters
    ----------
    theta, path : ndarray of shape (B, K)
    backward : str
        "single" or "sparse".
    tau : float
    uniform : ndarray of shape (B, 1) for "single", (B, K) for "sparse"
        Numbers in [0, 1).

    Returns
    -------
    scale : ndarray of shape (B, K)
        0 or 1 / probability: its mean is 1.
    """
    a = np.maximum(np.abs(theta), np.abs(path))
    if backward == "sparse":
        probability = np.minimum(1, a / tau)  # eq. 21.1
        keep = uniform < probability
    else:
        total = a.sum(axis=1, keepdims=True)
        probability = a / np.where(total == 0, 1, total)  # eq. 21.2
        # the first sample whose running sum exceeds a uniform number
        running = a.cumsum(axis=1)
        below = running <= uniform * running[:, -1:]
        chosen = below.sum(axis=1, keepdims=True)
        keep = (np.arange(a.shape[1], like=a) == chosen) & (a > 0)
    return keep / np.where(keep, probability, 1)
