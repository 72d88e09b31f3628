"""Pictures made of images: what a model draws, and what it makes of given ones."""

from math import ceil

import numpy as np

from ..data import binarize
from .figure import finished, new_figure

MOST_TILES = 10_000
CAPTION = 0.2  # height of a caption's strip, in inches
REACH = 2.5  # how far a traversal goes to either side: standard deviations of the prior


def image_grid(images, path=None, columns=10, image_shape=None, captions=None):
    """Images row by row in the order given, white on black.

    Parameters
    ----------
    images : ndarray of shape (n, D)
    path : path-like, optional
        The PNG to write.
    columns : int
        Images in a row.
    image_shape : tuple of int, optional
        (height, width) or (height, width, channels).
    captions : list of str, optional
        A line above each image.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For images of another shape, and for more than a picture holds.
    """
    canvas, (rows, columns) = tiled(images, columns, image_shape)
    strip = 0 if captions is None else CAPTION
    width, height = tile_inches(canvas, rows, columns)
    figure = new_figure(width * columns, (height + strip) * rows, layout=None)
    if captions is None:
        figure_rows = [(0, canvas)]
    else:  # a row of images at a time, with room above it
        figure_rows = enumerate(np.split(canvas, rows))
    for row, pixels in figure_rows:
        part = 1 if captions is None else 1 / rows
        top, room = 1 - row * part, strip / ((height + strip) * rows)
        axes = figure.add_axes((0, top - part, 1, part - room))
        show(axes, pixels)
        axes.axis("off")
        for column, caption in enumerate((captions or [])[row * columns :][:columns]):
            x = (column + 0.5) / columns
            how = {"ha": "center", "va": "bottom", "fontsize": 5}
            figure.text(x, top - room + 0.03 * part, caption, **how)
    return finished(figure, path)


def tiled(images, columns, image_shape):
    """One array of all images, and its rows and columns of images."""
    images = np.asarray(images)
    D, n = images.shape[1], len(images)
    if image_shape is None:
        side = int(np.sqrt(D))
        if side * side != D:
            raise ValueError(f"images of {D} pixels are not square: give image_shape")
        image_shape = side, side
    height, width, channels = (*image_shape, 1)[:3]
    if height * width * channels != D:
        raise ValueError(f"an image_shape of {image_shape} has not {D} numbers")
    if n > MOST_TILES:
        raise ValueError(f"a picture holds at most {MOST_TILES:,}; got {n:,}")
    columns = min(columns, n)
    rows = ceil(n / columns)
    canvas = np.zeros((rows * columns, height, width, channels), images.dtype)
    canvas[:n] = images.reshape(n, height, width, channels)
    canvas = (
        canvas.reshape(rows, columns, height, width, channels)
        .transpose(0, 2, 1, 3, 4)
        .reshape(rows * height, columns * width, channels)
    )
    return (canvas[..., 0] if channels == 1 else canvas), (rows, columns)


def tile_inches(canvas, rows, columns):
    """Width and height of an image: 84 pixels at 150 dpi, so three whole ones for each
    of 28, on its longer side.
    """
    height, width = canvas.shape[0] / rows, canvas.shape[1] / columns
    scale = 0.56 / max(height, width)
    return width * scale, height * scale


def show(axes, canvas):
    """Draw the pixels, those outside of [0, 1] as black or white."""
    pixels = np.clip(canvas, 0, 1)
    how = {"vmin": 0, "vmax": 1, "interpolation": "nearest", "aspect": "auto"}
    axes.imshow(pixels, cmap="gray", **how)


def samples(model, path=None, rng=None, n=100, image_shape=None):
    """``n`` draws from the model, as the means of p(x|z)."""
    rng = np.random.default_rng(0) if rng is None else rng
    return image_grid(model.sample(n, rng), path, image_shape=image_shape)


def draw_model(model, images, folder, image_shape=None):
    """The pictures that need no evaluation: samples, reconstructions of the first
    ``images``, and the manifold of a model that has one.
    """
    how = {"image_shape": image_shape}
    samples(model, folder / "samples.png", **how)
    x = images[:50]
    if model.likelihood == "bernoulli":
        x = binarize(x, np.random.default_rng(0))
    reconstructions(model, x, folder / "reconstructions.png", **how)
    if model.latent_dims == (2,):
        manifold(model, folder / "manifold.png", **how)


def reconstructions(model, x, path=None, image_shape=None, labels=None, log_p=None):
    """Each image of ``x`` above the mean of p(x|z) at z = E_q[z|x]; ten a row.

    Parameters
    ----------
    labels : ndarray of shape (n,), optional
    log_p : ndarray of shape (n,), optional
        log p(x) in nats, as of an `Evaluation`.
    """
    means = model.decode(model.encode(x)[0])
    what = [
        " ".join(
            ([] if labels is None else [str(labels[i])])
            + ([] if log_p is None else [f"{log_p[i]:.0f}"])
        )
        for i in range(len(x))
    ]
    pairs, captions = [], []
    for start in range(0, len(x), 10):
        ten = slice(start, start + 10)
        rest = [np.zeros_like(x[0])] * (min(10, len(x)) - len(x[ten]))
        pairs += [*x[ten], *rest, *means[ten], *rest]
        captions += what[ten] + [""] * (len(x[ten]) + 2 * len(rest))
    given = labels is not None or log_p is not None
    how = {"image_shape": image_shape, "captions": captions if given else None}
    return image_grid(np.array(pairs), path, min(10, len(x)), **how)


def best_and_worst(images, log_p, path=None, n=20, labels=None, image_shape=None):
    """The ``n`` images that a model finds most probable, and below them the ``n`` least
    probable, with log p(x) in nats: `Evaluation.log_p`.
    """
    chosen = np.argsort(log_p)[::-1]
    if len(chosen) > 2 * n:
        chosen = np.concatenate([chosen[:n], chosen[-n:]])
    captions = [
        f"{log_p[i]:.0f}" if labels is None else f"{labels[i]}: {log_p[i]:.0f}"
        for i in chosen
    ]
    how = {"image_shape": image_shape, "captions": captions}
    return image_grid(images[chosen], path, min(10, n), **how)


def interpolation(model, x, path=None, n=10, image_shape=None):
    """``n`` equal steps in z_1 from the first image of ``x`` to the second, decoded.

    The two images themselves stand above the ends.
    """
    ends = model.encode(x)[0]
    t = np.linspace(0, 1, n, dtype=ends.dtype)[:, None]
    steps = model.decode((1 - t) * ends[0] + t * ends[1])
    above = np.zeros((n, x.shape[1]), x.dtype)
    above[0], above[-1] = x
    return image_grid(np.concatenate([above, steps]), path, n, image_shape)


def traversal(model, x, path=None, units=10, n=11, image_shape=None):
    """A walk along each of the most active ``units`` of z_1, most active first.

    Each row starts from E_q[z|x] of the first image of ``x`` and sets one unit to ``n``
    values; the variance of E_q[z|x] over ``x`` says how active a unit is.
    """
    mu = model.encode(x)[0]
    variances = mu.var(axis=0)
    chosen = np.argsort(variances)[::-1][:units]
    z = np.repeat(mu[:1], len(chosen) * n, axis=0).reshape(len(chosen), n, -1)
    steps = np.linspace(-REACH, REACH, n, dtype=mu.dtype)
    for row, unit in enumerate(chosen):
        z[row, :, unit] = steps
    figure, axes = grid_with_axes(
        model.decode(z.reshape(len(chosen) * n, -1)), n, image_shape
    )
    label_tiles(axes.xaxis, [f"{step:g}" for step in steps])
    label_tiles(axes.yaxis, [f"{unit}: {variances[unit]:.2f}" for unit in chosen])
    axes.set(xlabel="value of the unit", ylabel="unit: variance of E_q[z|x]")
    return finished(figure, path)


def manifold(model, path=None, n=20, image_shape=None):
    """The decoded plane of a two-dimensional latent: ``n`` x ``n`` equally likely steps
    under the prior, with the values of z.
    """
    from scipy.special import ndtri

    if model.latent_dims != (2,):
        raise ValueError(
            f"a manifold is drawn for latent_dims (2,); got {model.latent_dims}"
        )
    steps = ndtri((np.arange(n) + 0.5) / n)
    z = np.stack(np.meshgrid(steps, -steps), axis=-1).reshape(-1, 2)
    figure, axes = grid_with_axes(model.decode(z), n, image_shape)
    some = [f"{step:.1f}" if i % 3 == 0 else "" for i, step in enumerate(steps)]
    label_tiles(axes.xaxis, some)
    label_tiles(axes.yaxis, [text.replace("-", "") if text == "-0.0" else text
                             for text in some[::-1]])  # fmt: skip
    axes.set(xlabel="z, first unit", ylabel="z, second unit")
    return finished(figure, path)


def grid_with_axes(images, columns, image_shape):
    """A figure of the images, and its axes, which count tiles: 0 is the first."""
    canvas, (rows, columns) = tiled(images, columns, image_shape)
    width, height = tile_inches(canvas, rows, columns)
    figure = new_figure(width * columns + 1, height * rows + 0.7)
    axes = figure.subplots()
    show(axes, canvas)
    axes.images[0].set_extent((-0.5, columns - 0.5, rows - 0.5, -0.5))
    axes.set_aspect(height / width)
    return figure, axes


def label_tiles(axis, texts):
    """A text beside each row, or below each column, of images; an empty one has no
    tick.
    """
    there = [i for i, text in enumerate(texts) if text]
    axis.set_ticks(there, [texts[i] for i in there], fontsize="x-small")
