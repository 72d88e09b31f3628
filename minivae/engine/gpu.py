"""Training on a GPU, where the host looks at no number before an epoch ends (chapter
25).
"""

from functools import partial
from math import ceil, sqrt

import numpy as np

from . import noise
from .recording import recorded


def epochs_on_gpu(training, step_gradient, take_step, run_epoch):
    """A function like ``run_epoch`` whose host need not wait, so that a step can be
    replayed as a CUDA graph.

    What a step depends on is on the device: the order, the epoch, the step's number and
    its learning rate. If at the end something is not finite, or more samples were kept
    than the buffer holds, the epoch is taken again from its start by ``run_epoch``,
    which looks at every step.

    Parameters
    ----------
    training : Training
    step_gradient, take_step, run_epoch : callable
        Those of `minivae.training`.
    """
    model, adam, settings = training.model, training.adam, training.settings
    batch, n, growth = settings.batch, len(training.images), 1
    steps = {}  # images of a step -> the recorded step
    rate_of = model.to_device(np.zeros(training.steps))
    # a row for each step; the last may be filled up with a few of no image
    order = model.to_device(np.zeros((training.steps, batch), np.int64))
    epoch_now = model.to_device(noise.words_of_epoch(0))
    step_now, total = (
        model.to_device(np.zeros(1, np.int64)),
        model.to_device(np.zeros(1)),
    )
    restorable = [group.vector for group in (model.params, adam.m, adam.v)]
    restorable += [adam.t, *training.state.values()]

    def step_of(size):
        how = {"backward": settings.backward, "tau": settings.tau, "growth": growth}
        select = partial(rows_of_capacity, **how)

        def step():
            indices, rate = order[step_now].ravel()[:size], rate_of[step_now]
            np.add(step_now, 1, out=step_now)
            now = epoch_now, step_now
            value, grads = step_gradient(training, indices, *now, select)
            take_step(training, grads, rate)
            np.add(total, size * value, out=total)

        return recorded(step)

    def run(epoch, rates, step_done):
        nonlocal growth
        before = [array.copy() for array in restorable]
        permutation = noise.generator(settings.seed, epoch, 0).permutation(n)
        order.ravel()[:n] = model.to_device(permutation)
        epoch_now[...] = model.to_device(noise.words_of_epoch(epoch))
        step_now[...], total[...] = 0, 0
        rate_of[...] = model.to_device(rates)
        for start in range(0, n, batch):
            size = min(batch, n - start)
            if size not in steps:
                steps[size] = step_of(size)
            steps[size]()
            step_done(epoch, start + size)
        value = float(total[0]) / n
        after = (model.params.vector, adam.v.vector)
        if np.isfinite(value) and all(np.isfinite(array).all() for array in after):
            return value
        for array, saved in zip(restorable, before):
            array[...] = saved
        growth *= 2
        steps.clear()
        return run_epoch(training, epoch, rates, step_done)

    return run


def rows_of_capacity(keep, theta, *, backward, tau, growth):
    """`minivae.subsampling.kept_rows` without waiting for the device: the rows of the
    backward pass, of a number that the host knows beforehand.

    The rows that are kept come first, filled up to the capacity with others, whose
    zeros do no harm. Should there be more of them than that, theta becomes NaN.

    Returns
    -------
    rows : ndarray of int, or slice(None) for all
    theta : ndarray of shape (B, K)
    """
    most = capacity(*keep.shape, backward=backward, tau=tau, growth=growth)
    if most == keep.size:
        return slice(None), theta
    keep = keep.ravel()
    before = keep.cumsum()  # of the rows that are kept, each with itself
    total, numbers = before[-1:], np.arange(keep.size, like=before)
    rows = np.empty_like(before)
    index = np.where(keep, before - 1, total + numbers - before)  # eq. 25.1
    rows[index] = numbers
    return rows[:most], np.where(total > most, theta.dtype.type(np.nan), theta)


def capacity(B, K, *, backward, tau, growth):
    """How many samples of (B, K) a buffer of fixed size holds.

    Where the a[k] of `minivae.subsampling.subsample` sum to one, it keeps min(K, 1 /
    tau) of an image or fewer in the mean (eq. 25.2), and the batch's number has no more
    variance than that: six standard deviations are added. ``growth`` times as many are
    returned, where one was too few.
    """
    if backward == "all":
        return B * K
    if backward == "single":
        return B
    mean = B * min(K, 1 / tau)
    return min(B * K, ceil(growth * (mean + 6 * sqrt(mean))))  # eq. 25.3
