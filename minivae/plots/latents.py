"""Pictures of the latent space: where a model puts the images."""

import numpy as np

from ..data import binarize
from .figure import finished, legend_above, new_figure
from .grids import traversal

MOST_LABELS = 20  # in a legend


def draw_latents(model, images, folder, labels=None, image_shape=None):
    """The pictures of where images lie in the latent space, and of its units."""
    x = images
    if model.likelihood == "bernoulli":
        x = binarize(x, np.random.default_rng(0))
    latent_scatter(model, x, labels, folder / "latent_scatter.png")
    aggregated_posterior(model, x, folder / "aggregated_posterior.png")
    traversal(model, x, folder / "traversal.png", image_shape=image_shape)


def latent_scatter(model, x, labels=None, path=None):
    """E_q[z_1|x] of each image, in the colour of its label.

    Of more than two units the first two principal components are drawn, each with its
    share of the variance.
    """
    mu = np.asarray(model.encode(x)[0], np.float64)
    names = [f"unit {unit}" for unit in range(mu.shape[1])]
    if mu.shape[1] > 2:
        # (n, 2) also of a single image
        centred = np.concatenate([mu - mu.mean(axis=0), np.zeros((1, mu.shape[1]))])
        U, s, _ = np.linalg.svd(centred, full_matrices=False)
        mu, share = (U * s)[:-1, :2], s**2 / max((s**2).sum(), 1e-300)
        names = [f"component {i + 1} ({share[i]:.0%} of the variance)" for i in (0, 1)]
    elif mu.shape[1] == 1:
        mu, names = np.column_stack([mu, np.zeros(len(mu))]), [*names, ""]
    figure = new_figure(6, 6)
    axes = figure.subplots()
    dots = {"s": 6, "alpha": 0.6, "linewidths": 0}
    kinds = [] if labels is None else np.unique(labels)
    if 1 < len(kinds) <= MOST_LABELS:
        from matplotlib import colormaps

        colours = colormaps["tab10" if len(kinds) <= 10 else "tab20"].colors
        for kind, colour in zip(kinds, colours):
            axes.scatter(*mu[labels == kind].T, color=colour, label=str(kind), **dots)
        figure.legend(loc="outside right center", markerscale=2, title="label")
    else:
        axes.scatter(*mu.T, **dots)
    axes.set(xlabel=names[0], ylabel=names[1], aspect="equal", adjustable="datalim")
    return finished(figure, path)


def aggregated_posterior(model, x, path=None, units=6, rng=None):
    """q(z) = E_x q(z|x) of single units of z_1 against the prior, the most active units
    first and the least active one last.

    A model whose aggregated posterior is not N(0, 1) draws samples from where no image
    is (chapter 4).
    """
    rng = np.random.default_rng(0) if rng is None else rng
    mu, log_sigma = (np.asarray(part, np.float64) for part in model.encode(x))
    draws = mu + np.exp(log_sigma) * rng.standard_normal(mu.shape)
    variances = mu.var(axis=0)
    order = np.argsort(variances)[::-1]
    chosen = [*order[: units - 1], order[-1]] if len(order) > units else [*order]
    figure = new_figure(9, 2.6 * -(-len(chosen) // 3))
    panels = figure.subplots(-(-len(chosen) // 3), 3, squeeze=False, sharex=True)
    edges = np.linspace(-4, 4, 41)
    for axes, unit in zip(panels.flat, chosen):
        name = "aggregated posterior q(z)"
        axes.hist(draws[:, unit], edges, density=True, alpha=0.6, label=name)
        prior = np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi)
        axes.plot(edges, prior, "k-", linewidth=1, label="prior N(0, 1)")
        variance = f"variance of E_q[z|x] {variances[unit]:.2g}"
        axes.set_title(f"unit {unit}: {variance}", fontsize="small")
        axes.set_yticks([])
    for axes in list(panels.flat)[len(chosen) :]:
        axes.axis("off")
    legend_above(figure)
    return finished(figure, path)
