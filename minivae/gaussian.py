"""The diagonal Gaussian: its log-density and its KL to the prior, each followed by its
backward.

A Gaussian is given by mu and log_sigma; sigma = exp(log_sigma) is a standard deviation,
never a variance. Its draw is a kernel, `minivae.kernels.reparameterize`, as is the
log-weight under the prior, `minivae.kernels.log_weight`.
"""

from math import log, pi

import numpy as np

HALF_LOG_2PI = 0.5 * log(2 * pi)  # NumPy's number would make float64 of float32


def log_density(z, mu, log_sigma):
    """log N(z; mu, sigma^2), summed over the last axis, in nats.

    Parameters
    ----------
    z, mu, log_sigma : ndarray of shape (R, L)

    Returns
    -------
    log_p : ndarray of shape (R,) float64
    """
    u = (z - mu) * np.exp(-log_sigma)  # (R, L)
    unit = u**2 / 2 + log_sigma + HALF_LOG_2PI
    return -unit.sum(axis=1, dtype=np.float64)  # eq. 5.1


def log_density_backward(z, mu, log_sigma):
    """d log_density / d (z, mu, log_sigma), with seed 1 per row.

    Returns
    -------
    dz, dmu, dlog_sigma : ndarray of shape (R, L)
    """
    u = (z - mu) * np.exp(-log_sigma)  # (R, L)
    dmu = u * np.exp(-log_sigma)  # eq. 5.2
    return -dmu, dmu, u**2 - 1


def log_density_of_draw(eps, log_sigma):
    """log q(z|x) at z = mu + sigma * eps, where mu no longer shows.

    Parameters
    ----------
    eps : ndarray of shape (B, K, L)
    log_sigma : ndarray of shape (B, L)

    Returns
    -------
    log_q : ndarray of shape (B, K) float64
        In nats. Its gradient is part of the draw's backward (eqs. 7.6 and 7.7).
    """
    unit = eps**2 / 2 + log_sigma[:, None, :] + HALF_LOG_2PI
    return -unit.sum(axis=2, dtype=np.float64)  # eq. 7.2


def kl_to_standard_normal(mu, log_sigma):
    """KL(N(mu, sigma^2) || N(0, I)) of each row, in closed form.

    Kingma & Welling 2013, appendix B (eq. 5.5).

    Parameters
    ----------
    mu, log_sigma : ndarray of shape (B, L)

    Returns
    -------
    kl : ndarray of shape (B,) float64
        In nats, never negative.
    """
    unit = (mu**2 + np.expm1(2 * log_sigma) - 2 * log_sigma) / 2
    return unit.sum(axis=1, dtype=np.float64)  # eq. 5.5


def kl_to_standard_normal_backward(mu, log_sigma):
    """d kl / d (mu, log_sigma), with seed 1 per row; both (B, L)."""
    return mu.copy(), np.expm1(2 * log_sigma)  # eq. 5.6
