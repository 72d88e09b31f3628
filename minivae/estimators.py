"""Every estimator: a bound and K log-weights -> three coefficients for each sample.

The backward pass knows nothing of a bound but these (eq. 10.5):

    d theta = sum_k  theta[k] * d log p(x, z_k) / d theta
    d phi   = sum_k  path[k] * (d log w_k / d z_k) (d z_k / d phi)
                     + score[k] * d log q(z_k|x) / d phi  at fixed z_k

theta, path and score are (B, K) float64. Every estimator takes and returns the same:

Parameters
    bound   log_w -> value, c, dc: a bound of `minivae.BOUNDS`, its options filled in
    log_w   (B, K) log-weights, in nats
Returns
    value (B,), theta (B, K), path (B, K), score (B, K)

So an estimator is one function in one place (chapter 14); its docstring's first
sentence is what ``minivae train --help-estimators`` says of it.
"""

import numpy as np

from .bounds import miwae
from .engine.registry import Option, register_estimator

NORMALISED_WEIGHTS = "it needs the normalised weights, and only iwae has them as its c"
PAIR = "it is itself a pair of bounds, iwae for theta and miwae for phi"


@register_estimator()
def reparam(bound, log_w):
    """The plain gradient: exactly the derivative of the bound at fixed eps.

    Kingma & Welling 2013; Burda et al. 2016 (eq. 10.6).
    """
    value, c, _ = bound(log_w)
    return value, c, c, -c  # eq. 10.6: log q has a minus sign in log w


@register_estimator()
def stl(bound, log_w):
    """No score: unbiased where c is constant (elbo), else biased for phi.

    Sticking the landing (Roeder et al. 2017; eq. 15.1).
    """
    value, c, _ = bound(log_w)
    return value, c, c, np.zeros_like(c)  # eq. 15.1


@register_estimator()
def dreg(bound, log_w):
    """Unbiased if the bound's c is continuous, and less noisy for phi as K grows.

    The doubly reparameterised gradient (Tucker et al. 2018): the score of log q is
    turned into a path, with c - dc for c (eq. 16.3).
    """
    value, c, dc = bound(log_w)
    if dc is None:
        raise ValueError(
            "estimator 'dreg' needs the bound's second derivative, and this bound"
            " returns value and c alone: let it return value, c, dc, or take another"
            " estimator"
        )
    return value, c, c - dc, np.zeros_like(c)  # eq. 16.3


@register_estimator(baseline=Option(float, -3.0, "any number but these samples' own"))
def score(bound, log_w, *, baseline=0.0):
    """Unbiased without any path; noisy, so it has a baseline.

    The score-function gradient, NVIL (Mnih & Gregor 2014; eq. 17.2). ``baseline`` may
    be any number that does not depend on these samples.
    """
    value, c, _ = bound(log_w)
    signal = (value - baseline)[:, None] - c
    return value, c, np.zeros_like(c), signal  # eq. 17.2


VIMCO_NUMBERS = 2**20  # of the B K^2 log-weights, so many are in memory at a time


@register_estimator()
def vimco(bound, log_w):
    """Unbiased without any path; K >= 2, a baseline for each sample.

    Mnih & Rezende 2016 (eq. 17.4). The baseline of sample k is the bound with log w_k
    replaced by the mean of the others'. Raises ValueError if K is 1.
    """
    value, c, _ = bound(log_w)
    B, K = log_w.shape
    if K < 2:
        raise ValueError(f"vimco needs K >= 2; got K = {K}")
    others = (log_w.sum(axis=1, keepdims=True) - log_w) / (K - 1)
    k = np.arange(K, like=log_w)
    baseline, n = np.empty_like(log_w), max(1, VIMCO_NUMBERS // (B * K))
    for start in range(0, K, n):
        ks = slice(start, min(start + n, K))
        itself = k[ks, None] == k
        replaced = np.where(itself, others[:, ks, None], log_w[:, None, :])
        value_without, _, _ = bound(replaced.reshape(-1, K))  # (B, n, K)
        baseline[:, ks] = value_without.reshape(B, -1)  # eq. 17.3
    return value, c, np.zeros_like(c), value[:, None] - baseline - c  # eq. 17.4


@register_estimator(only_for="iwae", because=NORMALISED_WEIGHTS)
def rws(bound, log_w):
    """Fits q to the posterior: another objective for phi.

    Reweighted wake-sleep, wake-phi (Bornschein & Bengio 2015; eq. 18.2).
    """
    value, w_norm, _ = bound(log_w)
    return value, w_norm, np.zeros_like(w_norm), w_norm  # eq. 18.2


@register_estimator("rws-dreg", only_for="iwae", because=NORMALISED_WEIGHTS)
def rws_dreg(bound, log_w):
    """The mean of rws, less noisy.

    Tucker et al. 2018 (eq. 18.3).
    """
    value, w_norm, dw_norm = bound(log_w)
    return value, w_norm, dw_norm, np.zeros_like(w_norm)  # eq. 18.3


@register_estimator(
    only_for="iwae",
    because=PAIR,
    m=Option(int, 2, "how many groups the k samples are split into, for phi"),
)
def piwae(bound, log_w, *, m, ops):
    """Theta of iwae, phi of miwae with m groups.

    Rainforth et al. 2018 (eq. 18.4).
    """
    value, w_norm, _ = bound(log_w)
    _, c, _ = miwae(log_w, m=m, ops=ops)
    return value, w_norm, c, -c  # eq. 18.4
