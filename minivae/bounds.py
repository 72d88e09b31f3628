"""Every bound: K log-weights of one image -> the bound, and its first two derivatives.

A bound takes log_w (B, K), float64, in nats, and returns three float64 arrays:

    value (B,)     the bound, in nats
    c     (B, K)   d value / d log_w[k]; every row sums to 1
    dc    (B, K)   d c[k] / d log_w[k], the Hessian's diagonal

A dead row, whose value is -inf, has c = dc = 0: it cannot be improved by any small
step. The decorator sees to that, and to the arguments; `minivae.BOUNDS` holds the
checked functions, and the gradient checks, the tests and the command line take them
from there. So a bound is one function in one place (chapter 13). One that returns no dc
goes with every estimator but `dreg`.
"""

import numpy as np

from .engine.registry import Option, register_bound


@register_bound()
def elbo(log_w):
    """The evidence lower bound, sampled: the mean of K log-weights.

    Kingma & Welling 2013 (eq. 3.4).
    """
    value = log_w.mean(axis=1)  # eq. 3.4
    c = np.full_like(log_w, 1 / log_w.shape[1])  # eq. 10.3
    return value, c, np.zeros_like(c)


@register_bound()
def iwae(log_w, *, ops):
    """The importance weighted bound: log of the mean of K weights.

    Burda et al. 2016, their eq. 8 (here eq. 9.1). It agrees with `elbo` to the last bit
    where K = 1.
    """
    log_sum, w_norm = ops.softmax(log_w)
    value = log_sum - np.log(log_w.shape[1])  # eq. 9.1
    return value, w_norm, w_norm * (1 - w_norm)  # eqs. 10.2 and 10.4


@register_bound(m=Option(int, 2, "how many groups the k samples are split into"))
def miwae(log_w, *, m, ops):
    """The mean of the IWAE bounds of ``m`` equal groups of samples.

    Rainforth et al. 2018 (eq. 13.1). m = 1 is `iwae`, and m = K is `elbo`. Raises
    ValueError if ``m`` does not divide K.
    """
    B, K = log_w.shape
    if m < 1 or K % m:
        raise ValueError(f"m must be a whole number that divides K = {K}; got {m!r}")
    group_value, u, du = iwae(log_w.reshape(B * m, K // m), ops=ops)
    value = group_value.reshape(B, m).mean(axis=1)  # eq. 13.1
    return value, u.reshape(B, K) / m, du.reshape(B, K) / m  # eq. 13.2


@register_bound(beta=Option(float, 0.3, "the ELBO's part of the mixture, from 0 to 1"))
def ciwae(log_w, *, beta, ops):
    """beta times the ELBO and 1 - beta times the IWAE bound.

    Rainforth et al. 2018 (eq. 13.3). Raises ValueError if ``beta`` is not in [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1]; got {beta!r}")
    if beta == 0:  # a factor of 0 would turn a value of -inf into NaN
        return iwae(log_w, ops=ops)
    if beta == 1:
        return elbo(log_w)
    pairs = zip(elbo(log_w), iwae(log_w, ops=ops))
    return tuple(
        beta * of_elbo + (1 - beta) * of_iwae for of_elbo, of_iwae in pairs
    )  # eq. 13.3


@register_bound(alpha=Option(float, 0.4, "the order: 0 is iwae, and 1 is elbo"))
def vr(log_w, *, alpha, ops):
    """The variational Renyi bound of order alpha.

    Li & Turner 2016, their eq. 14 (here eq. 19.1). alpha = 0 is `iwae`, alpha = 1 is
    `elbo`; a bound from below for alpha >= 0, and its K-sample estimate for every
    alpha. Raises ValueError if ``alpha`` is not finite.
    """
    if not np.isfinite(alpha):
        raise ValueError(f"alpha must be finite; got {alpha!r}")
    if alpha == 1:
        return elbo(log_w)
    s = 1 - alpha
    _, v = ops.softmax(s * log_w)
    pivot = log_w.max(axis=1) if s > 0 else log_w.min(axis=1)
    dead = pivot == -np.inf
    # any numbers in the dead rows: their value is set below
    pivot, log_w = np.where(dead, 0, pivot), np.where(dead[:, None], 0, log_w)
    # log1p and expm1: for a small s the mean is nearly 1, and its logarithm nearly s
    grown = np.expm1(s * (log_w - pivot[:, None])).mean(axis=1)
    value = np.where(dead, -np.inf, pivot + np.log1p(grown) / s)  # eq. 19.1
    return value, v, s * v * (1 - v)  # eq. 19.2


@register_bound()
def jackknife(log_w, *, ops):
    """The jackknife bound of order 1: the IWAE bound less its bias of order 1/K.

    Nowozin 2018 (eq. 19.3). Not a lower bound, and c can be negative. Where all
    log-weights but one are -inf, there is no bias to be estimated, as a bound without
    that one is -inf: the row is that of `iwae`. Raises ValueError if K is 1.
    """
    K = log_w.shape[1]
    if K < 2:
        raise ValueError(f"jackknife needs K >= 2; got K = {K}")
    value, w_norm, dw_norm = iwae(log_w, ops=ops)
    rest = leave_one_out(log_w)  # log of the sum of the others' weights
    alone = (rest.min(axis=1) == -np.inf)[:, None]  # and dead rows
    rest = np.where(alone, 0, rest)  # any number: these rows are set below
    a = (K - 1) / K
    others = (rest - np.log(K - 1)).mean(axis=1)
    corrected = K * value - (K - 1) * others  # eq. 19.3
    # r_ik = w_k / (sum of all but w_i); the sums over i != k are leave-one-out too
    r = np.exp(log_w + leave_one_out(-rest))  # eq. 19.4
    r2 = np.exp(2 * log_w + leave_one_out(-2 * rest))
    c, dc = K * w_norm - a * r, K * dw_norm - a * (r - r2)  # eq. 19.5
    return (
        np.where(alone[:, 0], value, corrected),
        np.where(alone, w_norm, c),
        np.where(alone, dw_norm, dc),
    )


def leave_one_out(a):
    """log of the sum of exp(a) over all columns but one, for each column; (B, K).

    From running sums of what stands before and after: nothing is subtracted, so nothing
    is lost where one term outweighs all others.
    """
    none = np.full_like(a[:, :1], -np.inf)
    before = running_logsumexp(np.concatenate([none, a[:, :-1]], axis=1))
    after = running_logsumexp(np.concatenate([none, a[:, :0:-1]], axis=1))[:, ::-1]
    return np.logaddexp(before, after)


def running_logsumexp(a):
    """log of the sum of exp(a) up to each column, (B, K), in log2 K rounds: after each,
    a column holds the sum of twice as many.
    """
    shift = 1
    while shift < a.shape[1]:
        added = np.logaddexp(a[:, shift:], a[:, :-shift])
        a, shift = np.concatenate([a[:, :shift], added], axis=1), 2 * shift
    return a
