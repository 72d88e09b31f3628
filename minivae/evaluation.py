"""How good a model is: its likelihood on test images, and the latent units it uses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .bounds import iwae
from .data import binarize
from .engine.batching import shards
from .engine.checks import check_finite, check_images, check_seed, check_size
from .engine.digest import digest, digest_of_images
from .engine.interrupt import interruptible
from .engine.memory import check_memory
from .engine.noise import draw_eps
from .engine.partial import kept_results, stopped
from .engine.recording import repeat
from .engine.report import progress_bar
from .engine.threads import each
from .gaussian import kl_to_standard_normal
from .kernels.device import to_host
from .log_weights import log_weights_forward
from .model import VAE
from .networks import encoder_forward
from .results import Evaluation, standard_error

BOUND_SIZES = (1, 5, 50, 500, 5000)
# a block: its images are split among threads, or are enough for a GPU
IMAGES, SAMPLES = {"cpu": 50, "cuda": 1000}, 20
ACTIVE = 0.01  # variance above which a unit is active (Burda et al. 2016, section 5.2)


def evaluate(
    model: VAE,
    images: ArrayLike,
    k: int = 5000,
    *,
    binarize_seed: int = 0,
    seed: int = 0,
    bound_sizes: Iterable[int] = BOUND_SIZES,
    partial: str | os.PathLike | None = None,
    progress: bool = True,
) -> Evaluation:
    """The likelihood of ``images``, the bounds, the units in use, the sample size.

    The weights of an image are drawn a block at a time, of which only the log-weights
    are kept: memory grows with ``k`` by 8 bytes per weight, for the images at hand.

    Parameters
    ----------
    model : VAE
    images : ndarray of shape (n, D)
        Grey values in [0, 1], or bytes from 0 to 255; binarized once, with
        ``binarize_seed``, for likelihood "bernoulli". For others, as they are.
    k : int
        Weights per image (Burda et al. 2016 use 5,000).
    seed : int
        Of eps.
    bound_sizes : iterable of int
        For which k' the k'-sample bound is measured; ``k`` itself always is, and what
        is larger is left out.
    partial : path-like, optional
        A file for what is measured so far: after Ctrl-C or a kill the same call goes
        on from there. It is removed at the end.
    progress : bool
        Show a bar, in a terminal.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        For images of the wrong shape or range, k < 1, and NaN in the parameters.
    """
    k, seed = check_size("k", k), check_seed("seed", seed)
    binarize_seed = check_seed("binarize_seed", binarize_seed)
    images = images_seen(check_finite(model), images, binarize_seed)
    sizes = {check_size("bound_sizes", size) for size in bound_sizes}
    how = {"seed": seed, "bound_sizes": sizes, "partial": partial, "progress": progress}
    result = summary_of(model, images, k, measure(model, images, k, **how))
    if partial is not None:
        Path(partial).unlink(missing_ok=True)
    return result


@np.errstate(all="ignore")  # weights may vanish, and an NLL be infinite
def measure(
    model,
    images,
    k,
    rows=None,
    *,
    seed,
    partial,
    progress,
    bound_sizes=BOUND_SIZES,
):
    """What `evaluate` measures of each image, before the means over images are taken.

    Parameters
    ----------
    images : ndarray of shape (n, D)
        As `images_seen` returns them.
    rows : slice, optional
        Only these images. All arrays are zero for the others, so the sum of what was
        measured of two parts is that of both.
    partial : path-like or None
        As for `evaluate`, but the file is left.

    Returns
    -------
    arrays : dict
    """
    n, block = len(images), IMAGES[model.device]
    check_memory(f"an evaluation with k = {k:,}", 40 * min(n, block) * k, "k")
    rows = rows or slice(0, n)
    bounds = {size: np.zeros(n) for size in sorted({*bound_sizes, k}) if size <= k}
    x = model.to_device(images)
    log_px, kl, ess, weights = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(k)
    means = [np.zeros((n, L)) for L in model.latent_dims]  # E_q[z_l|x]
    arrays = {"log_px": log_px, "kl": kl, "ess": ess, "weights": weights}
    arrays |= {f"bound_{size}": array for size, array in bounds.items()}
    arrays |= {f"mean_{l}": array for l, array in enumerate(means, start=1)}
    of = {"rows": [rows.start, rows.stop], "sizes": [*bounds], "seed": seed}
    key = digest(digest_of_images(images), model.params.digest(), model.config(), of)

    def weigh(rows):
        """Fill in what is measured of these images; the sum of their sorted weights."""
        log_w, *drawn = draw_weights(model, x[rows], k, seed, rows)
        log_px[rows], kl[rows], *here = (to_host(array) for array in drawn)
        for mean, mean_here in zip(means, here):
            mean[rows] = mean_here
        for size in bounds:  # eq. 12.2; an incomplete last group is left out
            groups = log_w[:, : k // size * size].reshape(-1, size)
            value, _, _ = iwae(groups, ops=model.ops)
            bounds[size][rows] = to_host(value.reshape(len(log_w), -1).mean(axis=1))
        _, w_norm, _ = iwae(log_w, ops=model.ops)
        ess[rows] = to_host(1 / (w_norm**2).sum(axis=1))  # eq. 12.4
        return to_host(np.sort(w_norm, axis=1)[:, ::-1].sum(axis=0))

    total, desc = rows.stop - rows.start, f"evaluate, k = {k}"
    bar = progress_bar(total=total, desc=desc, unit="img", show=progress)
    done, keep = kept_results(partial, key, arrays)
    with bar, interruptible() as interrupted:
        bar.update(done)
        for start in range(rows.start + done, rows.stop, block):
            stop = min(start + block, rows.stop)
            weights += sum(each(weigh, shards(start, stop, k, model.device))) / n
            bar.update(stop - start)
            done = stop - rows.start
            keep(done, at_once=interrupted() or done == total)
            if interrupted():
                raise stopped(partial, done, total)
    return arrays


@np.errstate(all="ignore")
def summary_of(model, images, k, arrays):
    """The `Evaluation` of what `measure` returned."""
    n, log_p = len(images), arrays[f"bound_{k}"]
    means = [arrays[f"mean_{l + 1}"] for l in range(len(model.latent_dims))]
    variances = [mean.var(axis=0) for mean in means]  # eq. 12.3
    bounds = {
        int(name.removeprefix("bound_")): float(array.mean())
        for name, array in arrays.items()
        if name.startswith("bound_")
    }
    return Evaluation(
        nll=-float(log_p.mean()),  # eq. 12.1
        nll_se=standard_error(log_p),
        bounds=bounds,
        active_units=[int((variance > ACTIVE).sum()) for variance in variances],
        unit_variances=variances,
        reconstruction=float(arrays["log_px"].mean()),
        kl=float(arrays["kl"].mean()),
        effective_sample_size=arrays["ess"],
        sorted_weights=arrays["weights"],
        images=n,
        k=k,
        log_p=log_p,
        x_digest=digest_of_images(images),
        params_digest=model.params.digest(),
    )


def images_seen(model, images, binarize_seed):
    """``images`` as `evaluate` takes them: checked, and binarized if the model is."""
    images = check_images("images", images, model)
    if model.likelihood == "bernoulli":
        images = binarize(images, np.random.default_rng(binarize_seed))
    return images


def draw_weights(model, x, k, seed, images):
    """``k`` log-weights of each image, a block of samples at a time.

    Parameters
    ----------
    x : ndarray of shape (B, D)
    seed : int
        Of eps, which is drawn by its counter.
    images : slice
        The images' numbers.

    Returns
    -------
    log_w : ndarray of shape (B, k)
    log_px : ndarray of shape (B,)
        E_q log p(x|z), over the same samples.
    kl : ndarray of shape (B,)
        KL(q || prior): in closed form for one stochastic layer, else over the samples.
    *means : ndarray of shape (B, L)
        E_q[z_l|x], one for each layer; for l > 1, of q_l's mean over the samples of
        z_{l-1}.
    """
    q1, _ = encoder_forward(model, x)
    log_w, log_px = np.empty((len(x), k), like=x), np.zeros(len(x), like=x)
    means = [np.zeros((len(x), L), like=x) for L in model.latent_dims[1:]]

    def draw_block(step, n=SAMPLES):
        """``n`` samples, the first of which has the number step * SAMPLES."""
        columns = step * SAMPLES + np.arange(n, like=x)
        eps = draw_eps(model, seed, epoch=0, step=step, images=images, k=n)
        log_w[:, columns], cache = log_weights_forward(model, x, q1, eps)
        log_px[:] += cache["log_px"].sum(axis=1) / k
        for l, mean in enumerate(means, start=2):
            mu = cache["q"][l][0].reshape(len(x), -1, mean.shape[1])
            mean += mu.sum(axis=1) / k

    repeat(draw_block, k // SAMPLES, model.device)
    if k % SAMPLES:
        draw_block(k // SAMPLES, k % SAMPLES)
    kl = log_px - log_w.mean(axis=1) if means else kl_to_standard_normal(*q1)
    return log_w, log_px, kl, q1[0], *means
