"""Annealed importance sampling: log p(x) far more sharply than by importance sampling,
and how sharply (chapter 28).

    for each image, for each of its chains:
        eps ~ N(0, I), which is z ~ q(z|x)
        for each power of w, from 0 to 1:
            log weight += (this power - the one before) * log w(eps)
            eps = a Hamiltonian transition for N(eps; 0, I) w(eps)^power

With the power 1 alone this is importance sampling. All draws are by counter or from a
seeded generator, so the same seeds give the same figures; with another number of
threads they differ by rounding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .bernoulli import bernoulli_mean
from .data import binarize
from .engine.batching import CHUNK_ROWS, shards
from .engine.checks import check_finite, check_grey, check_seed, check_size, check_x
from .engine.digest import digest, digest_of_images
from .engine.interrupt import interruptible
from .engine.noise import SUBSAMPLING, draw_eps, generator, normal, uniform
from .engine.partial import kept_results, stopped
from .engine.report import progress_bar
from .engine.threads import count, each
from .hamiltonian import transition
from .kernels.device import to_host
from .layers import mlp_forward
from .log_weights import as_draws, as_rows, joint_backward, log_weights_forward
from .model import VAE
from .networks import encoder_forward, gaussian_backward, gaussian_forward
from .results import standard_error

CHAINS = 16  # of an image
SIMULATED = 20  # images from the model, for the bracket; and as many to tune on
# a run over simulated images that sets the size of the leapfrogs
PILOT, FIRST_STEP, ACCEPTANCE, RATE = 100, 0.3, 0.8, 0.5
# in the place of an epoch in the noise's counter, and stream 1 for the momentum
UP, DOWN, TUNING = 1, 2, 3


@dataclass
class Annealing:
    """What `anneal` measured, in nats.

    Attributes
    ----------
    nll, nll_se : float
        -log p(x), and its standard error over images (None for a single one). On
        average it is too high.
    log_px : ndarray of shape (n,)
        The stochastic lower bound of each image.
    gap, gap_se : float
        On images simulated from the model, the mean of the upper bound less the lower
        one, and its standard error: both bounds are that near to the truth there.
    acceptance : float
        The part of the Hamiltonian transitions that was accepted.
    distributions, chains, simulated : int
    """

    nll: float
    nll_se: float | None
    log_px: np.ndarray
    gap: float
    gap_se: float
    acceptance: float
    distributions: int
    chains: int = CHAINS
    simulated: int = SIMULATED

    def summary(self):
        """The scalars, as a dict that JSON can hold."""
        return {name: entry for name, entry in vars(self).items() if name != "log_px"}


def anneal(
    model: VAE,
    images: ArrayLike,
    distributions: int,
    *,
    binarize_seed: int = 0,
    seed: int = 0,
    partial: str | os.PathLike | None = None,
    progress: bool = True,
) -> Annealing:
    """log p(x) of ``images`` by annealed importance sampling, and how near it is.

    Neal 2001; for decoders Wu et al. 2017; the bracket is Grosse et al. 2015.

    Parameters
    ----------
    model : VAE
    images : ndarray of shape (n, D)
        As for `minivae.evaluate`.
    distributions : int
        In how many steps the power of w goes from 0 (which is q) to 1 (the posterior).
        With 1 this is importance sampling by as many weights as there are chains.
    binarize_seed, seed : int
        As for `minivae.evaluate`.
    partial : path-like, optional
        A file for the images that are done so far: after Ctrl-C or a kill the same call
        goes on from there. It is removed at the end.
    progress : bool
        Show a bar, in a terminal.

    Returns
    -------
    Annealing

    Raises
    ------
    ValueError
        For images of the wrong shape or range, NaN in the parameters, and likelihood
        "bernoulli-grey", which is no density.
    """
    N, seed = check_size("distributions", distributions), check_seed("seed", seed)
    binarize_seed = check_seed("binarize_seed", binarize_seed)
    if check_density(model).likelihood == "bernoulli":
        images = check_grey("images", images, model.x_dim, model.dtype)
        images = binarize(images, np.random.default_rng(binarize_seed))
    x = model.to_device(check_x(check_finite(model), images))
    schedule = powers(N), tune(model, seed)
    how = {"partial": partial, "progress": progress}
    log_w, accepted = anneal_chains(model, x, schedule, seed, **how)
    simulated = simulate(model, SIMULATED, generator(seed, UP, 0, 0))
    lower, upper = bracket(model, *simulated, schedule, seed, progress=progress)
    log_px, gap = log_mean(log_w), upper - lower
    if partial is not None:
        Path(partial).unlink(missing_ok=True)
    return Annealing(
        nll=-float(log_px.mean()),
        nll_se=standard_error(log_px),
        log_px=log_px,
        gap=float(gap.mean()),
        gap_se=standard_error(gap),
        acceptance=accepted,
        distributions=N,
    )


def check_density(model):
    """``model``, if its p(x|z) is a density over x: else there is no log p(x)."""
    if model.likelihood == "bernoulli-grey":
        raise ValueError("likelihood 'bernoulli-grey' is no density: x has no log p(x)")
    return model


def bracket(model, x, z, schedule, seed, progress=False):
    """Bounds on log p(x) of simulated images, which are below and above it on average.

    Grosse et al. 2015 (eq. 28.9).

    Parameters
    ----------
    x, z
        As from `simulate`: z is an exact draw from p(z|x).
    schedule : pair
        The powers, and the leapfrogs' sizes as from `tune`.

    Returns
    -------
    lower, upper : ndarray of shape (n,)
    """
    up, _ = anneal_chains(model, x, schedule, seed, progress=progress)
    down, _ = anneal_chains(model, x, schedule, seed, z=z, progress=progress)
    return log_mean(up), -log_mean(-down)  # eq. 28.9


def anneal_chains(model, x, schedule, seed, z=None, partial=None, progress=False):
    """The annealed log-weights of each image's chains (eq. 28.4).

    Parameters
    ----------
    x : ndarray of shape (n, D)
    schedule : pair
        The powers, and the leapfrogs' sizes as from `tune`.
    z : list of ndarray of shape (n, L), optional
        Draws from p(z|x), one for each layer. Given, every chain of an image starts
        there, and goes down from the power 1 to 0.
    partial : path-like, optional
        As for `anneal`, but the file is left.

    Returns
    -------
    log_w : ndarray of shape (n, C) float64
    accepted : float
        The part of the transitions that was accepted.
    """
    (power, sizes), N, n = schedule, len(schedule[0]) - 1, len(x)
    block = max(1, CHUNK_ROWS // CHAINS) * count()
    log_w, accepted = np.zeros((n, CHAINS)), np.zeros(n)
    arrays = {"log_w": log_w, "accepted": accepted}
    x_digest, of = digest_of_images(to_host(x)), {"N": N, "seed": seed}
    key = digest(x_digest, model.params.digest(), model.config(), of)
    done, keep = kept_results(partial, key, arrays)
    way = "up" if z is None else "down"
    name = f"anneal {way}, {N} distributions"
    bar = progress_bar(total=n * N, desc=name, unit="step", show=progress)
    with bar, np.errstate(all="ignore"), interruptible() as interrupted:
        bar.update(done * N)
        for start in range(done, n, block):
            images = slice(start, min(start + block, n))
            chains = Chains.begin(model, x, images, seed, z)
            total, moved = 0.0, 0.0
            for i in range(N):
                # between powers i and i + 1, counted from the end that it started at
                low = i if z is None else N - 1 - i
                total = total + (power[low + 1] - power[low]) * chains.log_w()
                if i < N - 1:
                    beta = float(power[low + 1] if z is None else power[low])
                    took = chains.move(beta, np.interp(beta, *sizes), i)
                    moved = moved + took.mean(axis=1) / (N - 1)
                bar.update(images.stop - start)
                if interrupted():
                    keep(start, at_once=True)
                    raise stopped(partial, start, n)
            log_w[images], accepted[images] = total, moved
            keep(images.stop, at_once=images.stop == n)
    return log_w, float(accepted.mean()) if N > 1 else 1.0


@dataclass
class Chains:
    """The chains of a block of images, and a part of the block for each thread."""

    model: VAE
    seed: int
    stage: int  # which of UP, DOWN, TUNING
    parts: list  # slices of images
    weigh: list  # functions of eps, one a part
    positions: list  # of `transition`, one a part

    @classmethod
    def begin(cls, model, x, images, seed, z=None, stage=UP):
        """At draws from q; or all chains of an image at its z."""

        def of_part(part):
            q1, _ = encoder_forward(model, x[part])
            weigh = partial(weigh_chains, model, x[part], q1)
            if z is None:
                # UP has the noise of `evaluate`, and TUNING its own
                eps = draw_eps(model, seed, 0, stage - UP, part, CHAINS)
            else:
                eps = noise_of(model, q1, [z_l[part] for z_l in z])
            eps = np.concatenate(eps, axis=2)
            return weigh, (eps, *weigh(eps))

        parts = shards(images.start, images.stop, CHAINS, model.device)
        weigh, positions = zip(*each(of_part, parts))
        stage = stage if z is None else DOWN
        return cls(model, seed, stage, parts, weigh, list(positions))

    def log_w(self):
        """log w of each chain, (B, C), on the host."""
        return np.concatenate([to_host(log_w) for _, log_w, _ in self.positions])

    def move(self, beta, step, t):
        """A transition of each chain, the ``t``-th; which were accepted, (B, C)."""
        ops, dtype = self.model.ops, self.model.dtype
        where = self.seed, self.stage, t

        def of_part(i):
            part, position = self.parts[i], self.positions[i]
            shape = position[0].shape[1:]
            self.positions[i], accepted = transition(
                self.weigh[i],
                position,
                beta=beta,
                step=float(step),
                momentum=normal(ops, *where, 1, part, shape).astype(dtype, copy=False),
                uniform=uniform(ops, *where, SUBSAMPLING, part, shape[:1]),
            )
            return to_host(accepted)

        return np.concatenate(each(of_part, range(len(self.parts))))


def weigh_chains(model, x, q1, eps):
    """log w of each chain, and its gradient with respect to eps (eqs. 8.1 and 28.2).

    Parameters
    ----------
    x : ndarray of shape (B, D)
    q1 : pair of ndarray of shape (B, L_1)
    eps : ndarray of shape (B, C, L)
        All layers' side by side.

    Returns
    -------
    log_w : ndarray of shape (B, C) float64
    slope : ndarray of shape (B, C, L)
    """
    by_layer = np.split(eps, np.cumsum(model.latent_dims)[:-1], axis=2)
    by_layer = [np.ascontiguousarray(e) for e in by_layer]
    log_w, cache = log_weights_forward(model, x, q1, by_layer)
    z = {l: as_rows(z_l) for l, z_l in cache["z"].items()}
    dz, slopes = joint_backward(model, x, z, cache), []
    ones = np.ones_like(eps, shape=(log_w.size, 1))
    for l in range(len(z), 0, -1):
        eps_l, (_, log_sigma) = cache["eps"][l], cache["q"][l]
        slope = np.exp(log_sigma)[:, None, :] * dz[l].reshape(eps_l.shape) + eps_l
        slopes.insert(0, slope.reshape(*log_w.shape, -1))  # eq. 28.2
        if l > 1:  # z_l and log q(z_l|z_{l-1}) depend on z_{l-1}, too
            draw = as_draws(dz[l]), eps_l, log_sigma
            dheads = model.ops.reparameterize_backward(*draw, ones, -ones)
            hs = cache["q_hs"][l]
            dz[l - 1] += gaussian_backward(model, f"q{l}", dheads, hs)
    return log_w, np.concatenate(slopes, axis=2)


def noise_of(model, q1, z):
    """The eps that draws ``z`` from q, for each chain: a list of (B, C, L)."""
    heads, eps = q1, []
    for l, z_l in enumerate(z, start=1):
        if l > 1:
            heads, _ = gaussian_forward(model, f"q{l}", z[l - 2])
        mu, log_sigma = heads
        eps.append(((z_l - mu) * np.exp(-log_sigma))[:, None, :])  # eq. 7.1
    return [np.repeat(e, CHAINS, axis=1) for e in eps]


def simulate(model, n, rng):
    """``n`` images from the model, and the z that each was drawn from.

    z, x ~ p(z) p(x|z) is x, z ~ p(x) p(z|x): so z is an exact draw from the posterior.

    Returns
    -------
    x : ndarray of shape (n, D)
    z : list of ndarray of shape (n, L)
        z_1, z_2, ...
    """

    def draw(heads):
        mu, log_sigma = heads
        noise = model.to_device(rng.standard_normal(mu.shape, model.dtype))
        return mu + np.exp(log_sigma) * noise

    top = len(model.latent_dims)
    z = [model.to_device(rng.standard_normal((n, model.latent_dims[-1]), model.dtype))]
    for l in range(top, 1, -1):
        z.insert(0, draw(gaussian_forward(model, f"p{l}", z[0])[0]))
    if model.likelihood == "gaussian":
        return draw(gaussian_forward(model, "p1", z[0])[0]), z
    mean = bernoulli_mean(model, "p1.logits", mlp_forward(model, "p1", z[0])[-1])
    x = model.to_device(rng.random(mean.shape)) < mean
    return x.astype(model.dtype), z


def tune(model, seed):
    """The size of a leapfrog for each power of w: two arrays, powers and sizes.

    A run up over images simulated from the model, which are other images than any that
    are measured. The size grows where more than `ACCEPTANCE` of the chains move, and
    shrinks where fewer do (eq. 28.8).
    """
    x, _ = simulate(model, SIMULATED, generator(seed, TUNING, 0, 0))
    chains = Chains.begin(model, x, slice(0, SIMULATED), seed, stage=TUNING)
    power, size, sizes = powers(PILOT)[1:], FIRST_STEP, []
    with np.errstate(all="ignore"):
        for t, beta in enumerate(power):
            accepted = chains.move(float(beta), size, t).mean()
            size *= np.exp(RATE * (accepted - ACCEPTANCE))  # eq. 28.8
            sizes.append(size)
    return power, np.array(sizes)


def powers(n):
    """The powers of w, n + 1 of them from 0 to 1 (eq. 28.3)."""
    return np.arange(n + 1) / n


def log_mean(log_w):
    """The log of the mean over an image's chains, (n,) (eq. 9.1)."""
    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])
