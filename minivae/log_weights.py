"""The log-weights of images, forward and backward, for any number of stochastic layers.

    log w = log p(x, z) - log q(z|x)
          = log p(x|z_1) + sum over l of [log p(z_l|z_{l+1}) - log q(z_l|z_{l-1})]

Row r is sample r % K of image r // K. For q_1 a Gaussian belongs to an image and has K
draws, (B, K, L). For a deeper q_l it belongs to a row and has one draw, (B * K, 1, L):
the same kernels serve both.
"""

import numpy as np

from .gaussian import log_density, log_density_backward, log_density_of_draw
from .kernels.device import on_host
from .networks import (
    decoder_backward,
    decoder_forward,
    gaussian_backward,
    gaussian_forward,
)


def log_weights_forward(model, x, q1, eps):
    """The log-weights of some images (eq. 8.1; with several layers eq. 10.7).

    Parameters
    ----------
    x : ndarray of shape (B, D)
    q1 : pair of ndarray of shape (B, L_1)
        mu and log_sigma of q_1.
    eps : list of ndarray of shape (B, K, L)

    Returns
    -------
    log_w : ndarray of shape (B, K) float64
        In nats.
    cache : dict
        Most entries are dictionaries over the layers l = 1, 2, ...
    """
    ops, top, (B, K, _) = model.ops, len(eps), eps[0].shape
    # deeper layers are (B * K, 1, L)
    eps = {l: e if l == 1 else as_draws(e) for l, e in enumerate(eps, start=1)}
    q_hs, p, p_hs = {}, {}, {}

    # through q, from x to the top: draw z_1, then each z_l from the one below
    q, z = {1: q1}, {1: ops.reparameterize(*q1, eps[1])}  # eq. 7.1
    for l in range(2, top + 1):
        q[l], q_hs[l] = gaussian_forward(model, f"q{l}", as_rows(z[l - 1]))
        z[l] = ops.reparameterize(*q[l], eps[l])

    # through p, from x to the top: log p(x|z_1), then of each layer
    # log p(z_l|z_{l+1}) - log q(z_l|z_{l-1})
    log_px, decoder_cache = decoder_forward(model, as_rows(z[1]), x)
    log_w = log_px
    for l in range(1, top):
        p[l], p_hs[l] = gaussian_forward(model, f"p{l + 1}", as_rows(z[l + 1]))
        log_p = log_density(as_rows(z[l]), *p[l])
        log_q = log_density_of_draw(eps[l], q[l][1])
        log_w = log_w + log_p.reshape(B, K) - log_q.reshape(B, K)
    # at the top p is N(0, I)
    log_w = log_w.reshape(z[top].shape[:2])
    log_w = ops.log_weight(log_w, z[top], eps[top], q[top][1]).reshape(B, K)  # eq. 8.3

    return log_w, {
        "x": x, "eps": eps, "z": z, "q": q, "q_hs": q_hs,
        "p": p, "p_hs": p_hs, "decoder": decoder_cache, "log_px": log_px,
    }  # fmt: skip


def log_weights_backward(model, cache, grads, *, theta, path, score, select):
    """The backward of `log_weights_forward`, for an estimator's rows.

    The sums of eq. 10.5; with several layers by eq. 20.4.

    Parameters
    ----------
    cache : dict
    grads : Params
        Every gradient but q_1's is added to it, in place.
    theta, path, score : ndarray of shape (B, K)
    select : callable
        As `nonzero_rows`: which rows go through p's backward pass.

    Returns
    -------
    dmu, dlog_sigma : ndarray of shape (B, L_1)
        What reaches q_1's heads.
    """
    ops, dtype, K = model.ops, model.dtype, theta.shape[1]
    eps, z, q, top = cache["eps"], cache["z"], cache["q"], len(cache["z"])
    # before the cast: rows that only float32 rounds to zero are too few to be worth a
    # copy of the rest
    rows, theta = select(theta, path)
    # with the plain gradient, the second pass below has nothing to add
    plain = on_host(score) and np.array_equal(score, -path)
    theta, path, score = theta.astype(dtype), path.astype(dtype), score.astype(dtype)
    theta_r, path_r, score_r = theta.ravel(), path.reshape(-1, 1), score.reshape(-1, 1)
    x, kept = cache["x"], {key: cache[key] for key in ("p", "p_hs", "decoder")}
    if not isinstance(rows, slice):
        x, kept = x[rows // K], take_rows(kept, rows)
    z_rows, theta_r = {l: as_rows(z[l])[rows] for l in z}, theta_r[rows]

    # backward through p, from x to the top: dlog_p[l] is d log p(x, z) / d z_l with
    # seed 1 per row, while the parameters count row r theta[r] times
    how = {"grads": grads, "coef": theta_r}
    dlog_p = {1: decoder_backward(model, x, kept["decoder"], **how)}
    for l in range(1, top):
        dlog_p_l, *dheads = log_density_backward(z_rows[l], *kept["p"][l])
        dlog_p[l] += dlog_p_l
        hs = kept["p_hs"][l]
        dlog_p[l + 1] = gaussian_backward(model, f"p{l + 1}", dheads, hs, **how)
    dlog_p[top] -= z_rows[top]  # the prior's part

    # backward through q, from the top to x: dz[l] goes to the heads that drew z_l, and
    # through them on to z_{l-1}
    dz = {l: np.zeros_like(as_rows(z[l])) for l in z}
    for l in dz:
        dz[l][rows] = path_r[rows] * dlog_p[l]
    for l in range(top, 1, -1):
        name, hs = f"q{l}", cache["q_hs"][l]
        draw = as_draws(dz[l]), eps[l], q[l][1]
        dheads = ops.reparameterize_backward(*draw, path_r, score_r)
        dz_below = gaussian_backward(model, name, dheads, hs, grads=grads)
        if not plain:
            # z_{l-1} is part of the path: through log q_l it gets -path, not score
            dheads = ops.reparameterize_backward(*draw, path_r, -path_r)
            dz_below = gaussian_backward(model, name, dheads, hs)
        dz[l - 1] += dz_below
    dz_1 = dz[1].reshape(z[1].shape)
    # eqs. 7.6 and 7.7
    return ops.reparameterize_backward(dz_1, eps[1], q[1][1], path, score)


def nonzero_rows(theta, path):
    """The rows of the backward pass: those whose theta or path is not zero.

    Parameters
    ----------
    theta, path : ndarray of shape (B, K)

    Returns
    -------
    rows : ndarray of int, or slice(None) for all
    theta : ndarray of shape (B, K)
    """
    (rows,) = ((theta != 0) | (path != 0)).ravel().nonzero()
    return (slice(None) if len(rows) == theta.size else rows), theta


def take_rows(cache, rows):
    """The same rows of every array in a nest of dictionaries, tuples and lists."""
    if isinstance(cache, dict):
        return {key: take_rows(value, rows) for key, value in cache.items()}
    if isinstance(cache, (tuple, list)):
        return [take_rows(value, rows) for value in cache]
    return cache[rows]


def as_rows(z):
    """(B, K, L) -> (B * K, L), without a copy."""
    return z.reshape(-1, z.shape[-1])


def as_draws(z):
    """(..., L) -> (B * K, 1, L), without a copy: each row one draw of its Gaussian."""
    return z.reshape(-1, 1, z.shape[-1])
