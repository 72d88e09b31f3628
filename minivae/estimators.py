"""Every estimator: a bound and K log-weights -> three rows of coefficients.

The backward pass knows nothing of a bound but these rows (eq. 10.5):

    d theta = sum_k  theta[k] * d log p(x, z_k) / d theta
    d phi   = sum_k  path[k] * (d log w_k / d z_k) (d z_k / d phi)
                     + score[k] * d log q(z_k|x) / d phi  at fixed z_k

theta, path and score are (B, K) float64. Every estimator takes and returns the same:

Parameters
    bound   log_w -> value, c, dc: an entry of `minivae.BOUNDS`, its options filled in
    log_w   (B, K) log-weights, in nats
Returns
    value (B,), theta (B, K), path (B, K), score (B, K)

To add an estimator, write the function, name it in `ESTIMATORS`, and say in `CLAIMS`
what it estimates.
"""

from math import ceil, sqrt

import numpy as np

from .bounds import miwae


def reparam(bound, log_w):
    """The plain gradient at fixed eps: exactly the derivative of the bound.

    Kingma & Welling 2013; Burda et al. 2016 (eq. 10.6).
    """
    value, c, _ = bound(log_w)
    return value, c, c, -c  # eq. 10.6


def stl(bound, log_w):
    """Sticking the landing: the score of log q is left out (Roeder et al. 2017).

    Unbiased only where dc = 0, which is the ELBO (eq. 15.1).
    """
    value, c, _ = bound(log_w)
    return value, c, c, np.zeros_like(c)  # eq. 15.1


def dreg(bound, log_w):
    """The doubly reparameterised gradient (Tucker et al. 2018), of any bound.

    The score of log q is turned into a path, with c - dc for c (eq. 16.3).
    """
    value, c, dc = bound(log_w)
    return value, c, c - dc, np.zeros_like(c)  # eq. 16.3


def score(bound, log_w, *, baseline=0.0):
    """The score-function gradient, NVIL (Mnih & Gregor 2014; eq. 17.2).

    ``baseline`` may be any number that does not depend on these samples: `train` passes
    a running mean of the bound.
    """
    value, c, _ = bound(log_w)
    signal = (value - baseline)[:, None] - c
    return value, c, np.zeros_like(c), signal  # eq. 17.2


def vimco(bound, log_w):
    """The score-function gradient with a baseline of its own for each sample.

    Mnih & Rezende 2016 (eq. 17.4). The baseline of sample k is the bound with log w_k
    replaced by the mean of the others'; K must be at least 2.
    """
    value, c, _ = bound(log_w)
    B, K = log_w.shape
    if K < 2:
        raise ValueError(f"vimco needs K >= 2; got K = {K}")
    others = (log_w.sum(axis=1, keepdims=True) - log_w) / (K - 1)
    k = np.arange(K, like=log_w)
    itself = k[:, None] == k
    replaced = np.where(itself, others[:, :, None], log_w[:, None, :])  # (B, K, K)
    baseline = bound(replaced.reshape(B * K, K))[0].reshape(B, K)  # eq. 17.3
    return value, c, np.zeros_like(c), value[:, None] - baseline - c  # eq. 17.4


def rws(bound, log_w):
    """Reweighted wake-sleep, wake-phi (Bornschein & Bengio 2015; eq. 18.2).

    Its phi follows another objective than the bound: it fits q to the posterior.
    """
    value, w_norm, _ = bound(log_w)
    return value, w_norm, np.zeros_like(w_norm), w_norm  # eq. 18.2


def rws_dreg(bound, log_w):
    """The mean of `rws` with less variance (Tucker et al. 2018; eq. 18.3)."""
    value, w_norm, dw_norm = bound(log_w)
    return value, w_norm, dw_norm, np.zeros_like(w_norm)  # eq. 18.3


def piwae(bound, log_w, *, m):
    """Theta of the IWAE bound of all samples, phi of the MIWAE bound of ``m`` groups.

    Rainforth et al. 2018 (eq. 18.4).
    """
    value, w_norm, _ = bound(log_w)
    _, c, _ = miwae(log_w, m=m)
    return value, w_norm, c, -c  # eq. 18.4


ESTIMATORS = {
    "reparam": reparam,
    "stl": stl,
    "dreg": dreg,
    "score": score,
    "vimco": vimco,
    "rws": rws,
    "rws-dreg": rws_dreg,
    "piwae": piwae,
}
# what each claims, and why some are for one bound only: the lines of the printed table
CLAIMS = {
    "reparam": "exactly the gradient of the bound at fixed eps",
    "stl": "no score: unbiased where dc = 0 (elbo), else biased for phi",
    "dreg": "unbiased for every bound, and less noisy for phi as K grows",
    "score": "unbiased without any path; noisy, so it has a baseline",
    "vimco": "unbiased without any path; K >= 2, a baseline for each sample",
    "rws": "fits q to the posterior: another objective for phi",
    "rws-dreg": "the mean of rws, less noisy",
    "piwae": "theta of iwae, phi of miwae with m groups",
}
IWAE_ONLY = {
    "rws": "its phi takes the normalised weights, which are c of iwae alone",
    "rws-dreg": "its phi takes the normalised weights, which are c of iwae alone",
    "piwae": "it is itself a pair of bounds, iwae for theta and miwae for phi",
}


def numbers_to_thin(K, backward):
    """How many uniform numbers `thin` takes for each image."""
    return {"all": 0, "single": 1, "sparse": K}[backward]


def draw_for_thin(B, K, backward, rng):
    """The uniform numbers that `thin` takes, (B, `numbers_to_thin`)."""
    if backward == "all":
        return np.empty((B, 0))
    return rng.random((B, numbers_to_thin(K, backward)))


def most_kept(B, K, backward, tau, room):
    """How many samples of (B, K) are walked back with, for a buffer of fixed size.

    Where the a[k] of `thin` sum to one, it keeps min(K, 1 / tau) of an image or fewer
    in the mean (eq. 25.2), and the batch's number has no more variance than that: six
    standard deviations are added. ``room`` times as many are returned, where one was
    too few. If ``room`` is None, so is the result: the host counts.
    """
    if room is None:
        return None
    if backward == "all":
        return B * K
    if backward == "single":
        return B
    mean = B * min(K, 1 / tau)
    return min(B * K, ceil(room * (mean + 6 * sqrt(mean))))  # eq. 25.3


def thin(theta, path, backward, tau, uniform):
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
    uniform : ndarray
        From `draw_for_thin`.

    Returns
    -------
    theta, path : ndarray of shape (B, K)
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
    scale = keep / np.where(keep, probability, 1)
    return scale * theta, scale * path
