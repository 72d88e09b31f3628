"""The numbers of the site's three interactive figures, from minivae's own bounds.

All are means over the same noise, evenly spread quantiles in random order, so that the
curves are smooth. The models:

    one mode    z ~ N(0, 1), x | z ~ N(z, 1), x = 1; the posterior is N(1/2, 1/2)
    two modes   z ~ N(0, 1), x | z ~ N(z^2, 0.3^2), x = 1.5; the posterior's modes are
                near -1.2 and 1.2
"""

import numpy as np
from scipy.stats import norm

import minivae as mv


def log_normal(x, mean, sigma):
    return -0.5 * ((x - mean) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)


def bound(log_w, k):
    """The mean of the IWAE bound over all groups of k of the log-weights; k = 1 is the
    ELBO.
    """
    groups = log_w[: len(log_w) // k * k].reshape(-1, k)
    return float(mv.BOUNDS["iwae"](groups)[0].mean())


def numbers():
    """What static/figures.js draws, as plain lists of rounded numbers."""
    return {
        "k": against_k(noise(200_000)),
        "sigma": against_sigma(noise(50_000)),
        "modes": two_modes(noise(10_000)),
    }


def noise(n):
    return np.random.default_rng(0).permutation(norm.ppf((np.arange(n) + 0.5) / n))


def against_k(eps):
    """q is the prior, as in chapter 9; gap is eq. 9.4."""
    ks = [1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 50, 70, 100]
    log_w = log_normal(1.0, eps, 1.0)
    log_px = log_normal(1.0, 0.0, np.sqrt(2))
    gap = np.exp(log_w).var() / np.exp(2 * log_px) / 2
    return {
        "k": ks,
        "bound": rounded([bound(log_w, k) for k in ks]),
        "expansion": rounded([log_px - gap / k for k in ks]),
        "truth": rounded(log_px),
    }


def against_sigma(eps):
    """q has the posterior's mean and another standard deviation."""
    sigmas, ks = np.linspace(0.1, 2.0, 39), [1, 5, 50]
    curves = []
    for sigma in sigmas:
        z = 0.5 + sigma * eps
        log_w = log_normal(z, 0, 1) + log_normal(1.0, z, 1) - log_normal(z, 0.5, sigma)
        curves.append([bound(log_w, k) for k in ks])
    return {
        "sigma": rounded(sigmas),
        "k": ks,
        "bound": rounded(np.transpose(curves)),
        "truth": rounded(log_normal(1.0, 0.0, np.sqrt(2))),
        "best": rounded(np.sqrt(0.5)),
    }


def two_modes(eps):
    """Which Gaussian q is best, for each K; the bounds are symmetric in its mean."""
    means = np.round(np.linspace(0, 2, 21), 3)
    sigmas = np.round(np.geomspace(0.08, 2.0, 17), 3)
    ks = [1, 5, 10, 50]
    grid = np.empty((len(ks), len(means), len(sigmas)))
    for i, mean in enumerate(means):
        for j, sigma in enumerate(sigmas):
            z = mean + sigma * eps
            log_w = log_normal(z, 0, 1) + log_normal(1.5, z**2, 0.3)
            log_w += 0.5 * eps**2 + np.log(sigma * np.sqrt(2 * np.pi))
            grid[:, i, j] = [bound(log_w, k) for k in ks]
    z = np.linspace(-3, 3, 241)
    joint = np.exp(log_normal(z, 0, 1) + log_normal(1.5, z**2, 0.3))
    p_x = joint.sum() * (z[1] - z[0])
    return {
        "mean": rounded(means),
        "sigma": rounded(sigmas),
        "k": ks,
        "bound": rounded(grid, 2),
        "z": rounded(z),
        "posterior": rounded(joint / p_x),
        "truth": rounded(np.log(p_x)),
    }


def rounded(values, digits=3):
    return np.round(values, digits).tolist()
