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
from .subsampling import in_their_places, take_rows


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

    # through q, from x to the top: draw z_1, then each z_l from the one below. With one
    # stochastic layer no loop here has a turn, and this is what minimal.py does
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
    # at the top p is N(0, I); above layer 1 each row is an image of one sample to the
    # kernel
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
        As `kept_rows`: which rows go through p's backward pass.

    Returns
    -------
    dmu, dlog_sigma : ndarray of shape (B, L_1)
        What reaches q_1's heads.
    """
    ops, K = model.ops, theta.shape[1]
    x, eps, z, q = (cache[key] for key in ("x", "eps", "z", "q"))
    top, cache_p = len(z), {key: cache[key] for key in ("p", "p_hs", "decoder")}
    # with the plain gradient, the second pass through q below has nothing to add
    plain = on_host(score) and np.array_equal(score, -path)

    # p's backward pass leaves out the rows that are below rounding, or not sampled; the
    # terms of log q cost little, and take all rows
    keep, coef, down, path, score = ops.coefficients(theta, path, score, model.dtype)
    rows, coef = select(keep, coef)
    coef, down = coef.ravel()[rows], down.reshape(-1, 1)[rows]
    z_p = {l: as_rows(z[l])[rows] for l in z}
    if not isinstance(rows, slice):
        x, cache_p = x[rows // K], take_rows(cache_p, rows)

    dlog_p = joint_backward(model, x, z_p, cache_p, grads=grads, coef=coef)

    # from the top to x: dz[l] goes to the heads that drew z_l, and on to z_{l-1}
    path_r, score_r = path.reshape(-1, 1), score.reshape(-1, 1)
    dz = {l: in_their_places(down * dlog_p[l], rows, theta.size) for l in z}
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
    draw = dz[1].reshape(z[1].shape), eps[1], q[1][1]
    return ops.reparameterize_backward(*draw, path, score)  # eqs. 7.6 and 7.7


def joint_backward(model, x, z, cache, **how):
    """d log p(x, z) / d z_l (R, L_l), by layer l, with seed 1 per row."""
    dlog_p = {1: decoder_backward(model, x, cache["decoder"], **how)}
    for l, hs in cache["p_hs"].items():  # from x to the top
        dz, *dheads = log_density_backward(z[l], *cache["p"][l])
        dlog_p[l] += dz
        dlog_p[l + 1] = gaussian_backward(model, f"p{l + 1}", dheads, hs, **how)
    dlog_p[len(z)] -= z[len(z)]  # the prior's part
    return dlog_p


def as_rows(z):
    """(B, K, L) -> (B * K, L), without a copy."""
    return z.reshape(-1, z.shape[-1])


def as_draws(z):
    """(..., L) -> (B * K, 1, L), without a copy: each row one draw of its Gaussian."""
    return z.reshape(-1, 1, z.shape[-1])
