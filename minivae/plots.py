"""The pictures: each function draws one PNG. Matplotlib is loaded when the first one is
drawn.
"""

from math import ceil
from pathlib import Path

import numpy as np

from .data import binarize
from .engine.files import write_atomically
from .evaluation import ACTIVE

MOST_TILES = 10_000


def new_figure(width=6.0, height=4.0, layout="constrained"):
    """A figure of its own, outside pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout=layout)


def save(figure, path):
    """Write the PNG; the folder is made when missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))


def learning_curves(histories, path):
    """The bound by epoch, training and test, of each history (label -> columns)."""
    figure = new_figure()
    axes = figure.subplots()
    for i, (label, history) in enumerate(histories.items()):
        epochs = history["epoch"]
        name = f"{label}, training (mean during the epoch)"
        axes.plot(epochs, history["bound"], f"C{i}.-", label=name)
        if "test_bound" in history:
            style = {"markerfacecolor": "none", "label": f"{label}, test (after it)"}
            axes.plot(epochs, history["test_bound"], f"C{i}o--", **style)
    axes.set(xlabel="epoch", ylabel="bound (nats)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if min(len(history["epoch"]) for history in histories.values()) > 30:
        axes.set_xscale("log")  # learning-rate stages grow as 3^i
    axes.legend()
    save(figure, path)


def image_grid(images, path, columns=10):
    """Square images, white on black, row by row in the order given."""
    side = int(np.sqrt(images.shape[1]))
    if side * side != images.shape[1]:
        raise ValueError(f"images of {images.shape[1]} pixels are not square")
    if len(images) > MOST_TILES:
        raise ValueError(f"a picture holds at most {MOST_TILES:,}; got {len(images):,}")
    columns = min(columns, len(images))
    rows = ceil(len(images) / columns)
    canvas = np.zeros((rows * columns, side, side), images.dtype)
    canvas[: len(images)] = images.reshape(-1, side, side)
    canvas = (
        canvas.reshape(rows, columns, side, side)
        .transpose(0, 2, 1, 3)
        .reshape(rows * side, columns * side)
    )
    # 84 pixels per image at 150 dpi: three whole ones for each of 28
    figure = new_figure(0.56 * columns, 0.56 * rows, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    save(figure, path)


def samples(model, path, rng, n=100):
    """``n`` draws from the model, as the means of p(x|z)."""
    image_grid(model.sample(n, rng), path)


def draw_model(model, images, folder):
    """The pictures that need no evaluation: samples, and reconstructions of the first
    ``images``.
    """
    samples(model, folder / "samples.png", np.random.default_rng(0))
    x = binarize(images[:50], np.random.default_rng(0))
    reconstructions(model, x, folder / "reconstructions.png")


def draw_evaluations(evaluations, folder):
    """The pictures of one or more evaluations (label -> Evaluation)."""
    active_units(evaluations, folder / "active_units.png")
    bound_against_k(evaluations, folder / "bound_against_k.png")
    normalised_weights(evaluations, folder / "normalised_weights.png")


def reconstructions(model, x, path):
    """Each image of ``x`` above the mean of p(x|z) at z = E_q[z|x]; ten a row."""
    means = model.decode(model.encode(x)[0])
    pairs = [
        image
        for start in range(0, len(x), 10)
        for image in (*x[start : start + 10], *means[start : start + 10])
    ]
    image_grid(np.array(pairs), path)


def interpolation(model, x, path, n=10):
    """``n`` equal steps in z_1 from the first image of ``x`` to the second, decoded.

    The two images themselves stand above the ends.
    """
    ends = model.encode(x)[0]
    t = np.linspace(0, 1, n, dtype=ends.dtype)[:, None]
    steps = model.decode((1 - t) * ends[0] + t * ends[1])
    above = np.zeros((n, x.shape[1]), x.dtype)
    above[0], above[-1] = x
    image_grid(np.concatenate([above, steps]), path, columns=n)


def manifold(model, path, n=20):
    """The decoded plane of a two-dimensional latent: ``n`` x ``n`` equally likely steps
    under the prior.
    """
    from scipy.special import ndtri

    if model.latent_dims != (2,):
        raise ValueError(
            f"a manifold is drawn for latent_dims (2,); got {model.latent_dims}"
        )
    steps = ndtri((np.arange(n) + 0.5) / n)
    z = np.stack(np.meshgrid(steps, -steps), axis=-1).reshape(-1, 2)
    image_grid(model.decode(z), path, columns=n)


def active_units(evaluations, path):
    """The sorted variances of E_q[z|x], one line per layer (label -> Evaluation)."""
    figure = new_figure()
    axes = figure.subplots()
    for label, evaluation in evaluations.items():
        layers = list(zip(evaluation.unit_variances, evaluation.active_units))
        for l, (variances, active) in enumerate(layers, start=1):
            name = f"{label}, z_{l}" if len(layers) > 1 else label
            unit = np.arange(1, len(variances) + 1)
            name = f"{name}: {active} active"
            axes.plot(unit, np.sort(variances)[::-1], ".-", label=name)
    axes.axhline(ACTIVE, color="0.5", linestyle=":", label=f"threshold {ACTIVE}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    ylabel = "variance of E_q[z|x] over images"
    axes.set(xlabel="latent unit, sorted", ylabel=ylabel, yscale="log")
    axes.legend()
    save(figure, path)


def bound_against_k(evaluations, path):
    """The k-sample bound of each labelled Evaluation, from the same weights."""
    figure = new_figure()
    axes = figure.subplots()
    for label, evaluation in evaluations.items():
        sizes, values = list(evaluation.bounds), list(evaluation.bounds.values())
        axes.plot(sizes, values, "o-", label=f"trained: {label}")
    axes.set(xlabel="k", ylabel="bound on log p(x) (nats)", xscale="log")
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.legend()
    save(figure, path)


def normalised_weights(evaluations, path):
    """Left: normalised weights, largest first. Right: effective sample sizes."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    for label, evaluation in evaluations.items():
        name, k = f"trained: {label}", evaluation.k
        rank = np.arange(1, k + 1)
        # a logarithmic axis has nothing to say of what underflowed to zero
        weights = np.maximum(evaluation.sorted_weights, 1e-300)
        left.plot(rank, weights, ".-" if k < 10 else "-", label=name)
        ess, bins = evaluation.effective_sample_size, np.geomspace(1, max(2, k), 25)
        right.hist(ess, bins=bins, alpha=0.5, label=name)
    ylabel = "normalised weight, mean over images"
    left.set(xlabel="rank", ylabel=ylabel, xscale="log", yscale="log", ylim=(1e-12, 2))
    xlabel = f"effective sample size of {k}, {evaluation.images} images"
    right.set(xlabel=xlabel, ylabel="images", xscale="log")
    left.legend()
    save(figure, path)


def signal_to_noise(curves, path):
    """SNR of the gradient against K, one panel for each (model, parameters).

    ``curves`` is (model, parameters) -> estimator -> list of (K, SNR); what is zero is
    left out.
    """
    figure = new_figure(9, 7)
    panels = figure.subplots(2, ceil(len(curves) / 2), squeeze=False, sharex=True)
    for axes, ((model, parameters), by_estimator) in zip(panels.T.flat, curves.items()):
        for i, (estimator, curve) in enumerate(by_estimator.items()):
            points = [(k, ratio) for k, ratio in curve if ratio > 0]
            label = "all estimators" if parameters == "theta" else estimator
            axes.plot(*zip(*points), f"C{i}.-", label=label)
        axes.set(title=f"{model}, {parameters}", xscale="log", yscale="log")
        axes.set(xlabel="K", ylabel="signal / noise of the gradient")
        axes.legend(fontsize="small")
    save(figure, path)
