"""Pictures of the true posterior of a model with two latent units, beside q."""

import numpy as np

from .plots.figure import finished, new_figure
from .quadrature import WIDTH, log_joint

COARSE, FINE = 181, 120  # points of a side: to find the window, and of a picture
SEEN = 1e-3  # of its maximum, above which p(z|x) is inside the window
SIGMAS = 3  # of q around its mean that are inside


def posteriors(models, x, path=None):
    """Heat maps of p(z|x), each beside q(z|x) in the same window: a row a model.

    As in Burda et al. 2016, appendix C: the true posterior of a VAE is nearer to a
    Gaussian with independent units than an IWAE's, which need not be.

    Parameters
    ----------
    models : dict
        Label -> VAE, of two latent units.
    x : ndarray of shape (n, D)
        Zeros and ones.
    path : path-like, optional
        Where to write the figure, as a PNG.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    figure = new_figure(2.4 * len(x), 1.4 * len(models))
    grid = figure.subplots(len(models), 2 * len(x), squeeze=False)
    values = np.linspace(-WIDTH, WIDTH, COARSE)
    for axes, (label, model) in zip(grid, models.items()):
        coarse = log_joint(model, x, values, values)
        mu, log_sigma = model.encode(x)
        sigma = np.exp(log_sigma)
        for i, pair in enumerate(axes.reshape(-1, 2)):
            first, second = window(coarse[i], mu[i], sigma[i])
            u = (first - mu[i, 0]) / sigma[i, 0]
            v = (second - mu[i, 1]) / sigma[i, 1]
            log_q = -(u[:, None] ** 2 + v**2) / 2
            log_p = log_joint(model, x[i : i + 1], first, second)[0]
            extent = (first[0], first[-1], second[0], second[-1])
            for panel, log_density, name in zip(pair, (log_p, log_q), "pq"):
                density = np.exp(log_density - log_density.max()).T
                panel.imshow(density, origin="lower", extent=extent, aspect="auto")
                panel.set(xticks=[], yticks=[], title=f"{name}(z|x)")
        axes[0].set_ylabel(label)
    return finished(figure, path)


def window(log_p, mu, sigma):
    """The values of either unit that a picture of p and q spans, from p on the coarse
    grid (`COARSE`, `COARSE`), and q.
    """
    coarse, spans = np.linspace(-WIDTH, WIDTH, COARSE), []
    seen = log_p > log_p.max() + np.log(SEEN)
    for unit in (0, 1):
        values = coarse[seen.any(axis=1 - unit)]
        low = min(values[0] - coarse[1] + coarse[0], mu[unit] - SIGMAS * sigma[unit])
        high = max(values[-1] + coarse[1] - coarse[0], mu[unit] + SIGMAS * sigma[unit])
        spans.append(np.linspace(low, high, FINE))
    return spans
