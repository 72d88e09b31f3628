"""SUMO: log p(x) without bias, from a random number of weights (Luo et al. 2020)."""

import numpy as np

from .engine.registry import check_log_w


def stopping_probability(k):
    """P(T >= k) of SUMO's stopping time: 1/k, from k = 80 on a tenth less each step.

    The choice of Luo et al. 2020: a heavy tail for the variance's sake, and an end of
    it for the cost's, with which the variance is infinite after all (chapter 19).
    """
    k = np.asarray(k, float)
    return np.where(k < 80, 1 / k, 0.9 ** (k - 80) / 80)


def draw_stopping_time(n, rng):
    """``n`` draws of SUMO's stopping time, whole numbers of at least 1."""
    u, T = rng.random(n), np.ones(n, int)
    while (going := u < stopping_probability(T + 1)).any():
        T[going] += 1
    return T


def sumo(log_w, stop):
    """log p(x) without bias, from a random number of weights.

    Luo et al. 2020 (eq. 19.6).

    Parameters
    ----------
    log_w : ndarray of shape (n, K)
        Independent log-weights of each image, in nats.
    stop : ndarray of shape (n,)
        Its stopping time, as from `draw_stopping_time`; it uses ``stop + 1`` weights.

    Returns
    -------
    estimate : ndarray of shape (n,)
        In nats. Averaged over log_w, and then over stop, it is log p(x).

    Raises
    ------
    ValueError
        If a stopping time is below 1, or needs more weights than there are.
    """
    log_w, stop = check_log_w(log_w), np.asarray(stop)
    n, K = log_w.shape
    if stop.shape != (n,) or stop.min() < 1 or stop.max() > K - 1:
        raise ValueError(
            f"stop must be ({n},) whole numbers from 1 to K - 1 = {K - 1};"
            f" got shape {stop.shape}, {stop.min()} to {stop.max()}"
        )
    k = np.arange(1, K + 1)
    bound = np.logaddexp.accumulate(log_w, axis=1) - np.log(k)  # of 1, 2, ... weights
    steps = np.diff(bound, axis=1) / stopping_probability(k[:-1])
    steps[k[:-1] > stop[:, None]] = 0
    return bound[:, 0] + steps.sum(axis=1)  # eq. 19.6
