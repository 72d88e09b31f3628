"""How good a model is: its likelihood on test images, and how much of its latent space it uses."""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from .bounds import iwae
from .data import binarize
from .gaussian import kl_to_standard_normal
from .model import check_size, log_weights_forward, q1_forward
from .train import check_grey

BOUND_KS = (1, 5, 50, 500, 5000)
IMAGES = 25  # evaluated together: with 10 samples each, a block of 250 rows
SAMPLES = 10
ACTIVE = 0.01  # a unit counts as active above this variance (Burda et al. 2016, section 5.2)


@dataclass
class Evaluation:
    """What `evaluate` measured. Bounds in nats, means over images.

    Attributes
    ----------
    nll, nll_se : float
        -log p(x) estimated by ``k`` weights an image, and its standard error over images.
    bounds : dict
        k -> the k-sample bound, from the same weights: ``k`` weights make many groups of fewer.
    active_units : list of int
        A stochastic layer each.
    unit_variances : list of ndarray of shape (L,)
        Var over images of E_q[z|x], by unit.
    reconstruction, kl : float
        The ELBO's two terms: E_q log p(x|z), and KL(q || prior), in closed form where there is one layer.
    effective_sample_size : ndarray of shape (n,)
        1 / sum of squared normalised weights, an image; between 1 and ``k``.
    sorted_weights : ndarray of shape (k,)
        Normalised weights, largest first, mean over images.
    images, k : int
        How many images, and how many weights each.
    """

    nll: float
    nll_se: float
    bounds: dict
    active_units: list
    unit_variances: list
    reconstruction: float
    kl: float
    effective_sample_size: np.ndarray
    sorted_weights: np.ndarray
    images: int
    k: int

    def summary(self):
        """The scalars, as a dict that JSON can hold."""
        return {
            "images": self.images,
            "k": self.k,
            "nll": self.nll,
            "nll_se": self.nll_se,
            "bounds": {str(k): value for k, value in self.bounds.items()},
            "active_units": self.active_units,
            "unit_variances": [variances.tolist() for variances in self.unit_variances],
            "reconstruction": self.reconstruction,
            "kl": self.kl,
            "effective_sample_size": float(self.effective_sample_size.mean()),
        }


def evaluate(model, images, k=5000, *, binarize_seed=0, seed=0, progress=True):
    """Likelihood, bounds, active units and effective sample size of ``model`` on ``images``.

    The weights of an image are drawn a block at a time, and all that is kept of a block is its log-weights: memory does
    not grow with ``k`` but for those 8 bytes a weight of the few images at hand.

    Parameters
    ----------
    model : VAE
    images : ndarray of shape (n, D)
        Grey values in [0, 1]; binarized once, with ``binarize_seed``.
    k : int
        Weights an image (Burda et al. 2016 use 5,000).
    seed : int
        Of eps.
    progress : bool
        Show a bar.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        For images of the wrong shape or range, and k < 1.
    """
    k = check_size("k", k)
    x = binarize(check_grey("images", images, model), np.random.default_rng(binarize_seed))
    rng = np.random.default_rng(seed)
    ks = sorted({n for n in BOUND_KS if n < k} | {k})
    n = len(x)
    bounds = {size: np.empty(n) for size in ks}
    log_px, kl, ess = np.empty(n), np.empty(n), np.empty(n)
    sorted_weights = np.zeros(k)
    means = [np.zeros((n, size)) for size in model.latent_dims]  # E_q[z_l|x]

    for start in tqdm(range(0, n, IMAGES), desc=f"evaluate, k = {k}", unit_scale=IMAGES, unit="img", disable=not progress):
        rows = slice(start, min(start + IMAGES, n))
        q1, _ = q1_forward(model, x[rows])
        log_w, log_px_sum = np.empty((len(q1[0]), k)), 0
        for first in range(0, k, SAMPLES):
            size = min(SAMPLES, k - first)
            eps = model.draw_eps(len(q1[0]), size, rng)
            log_w[:, first : first + size], cache = log_weights_forward(model, x[rows], q1, eps)
            log_px_sum = log_px_sum + cache["log_px"].sum(axis=1)
            for l, mean in enumerate(means[1:], start=2):  # averaged over every draw of the layer below
                mean[rows] += cache["q"][l][0].reshape(len(q1[0]), size, -1).sum(axis=1) / k
        means[0][rows] = q1[0]
        log_px[rows] = log_px_sum / k
        for size in ks:
            whole = k // size * size  # the last, incomplete group is left out
            value = iwae(log_w[:, :whole].reshape(-1, size), kernels=model.kernels)[0]
            bounds[size][rows] = value.reshape(len(log_w), -1).mean(axis=1)  # eq. 12.2
        w = iwae(log_w, kernels=model.kernels)[1]
        ess[rows] = 1 / (w**2).sum(axis=1)  # eq. 12.4
        sorted_weights += np.sort(w, axis=1)[:, ::-1].sum(axis=0) / n
        kl[rows] = kl_to_standard_normal(*q1) if len(means) == 1 else log_px[rows] - log_w.mean(axis=1)

    variances = [mean.var(axis=0) for mean in means]  # eq. 12.3
    return Evaluation(
        nll=-bounds[k].mean(),  # eq. 12.1
        nll_se=bounds[k].std(ddof=1) / np.sqrt(n) if n > 1 else float("nan"),
        bounds={size: value.mean() for size, value in bounds.items()},
        active_units=[int((variance > ACTIVE).sum()) for variance in variances],
        unit_variances=variances,
        reconstruction=log_px.mean(),
        kl=kl.mean(),
        effective_sample_size=ess,
        sorted_weights=sorted_weights,
        images=n,
        k=k,
    )
