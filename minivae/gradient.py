"""The gradient of a bound: the file to read beside the derivations.

    x -> encoder_forward -> mu, log_sigma -> log_weights_forward -> log_w
      -> estimator (which calls the bound) -> theta, path, score
      -> log_weights_backward -> dmu, dlog_sigma -> encoder_backward

`gradient` is the whole of it. After it come `elbo_kl`, whose gradient needs its own
code, and how a batch is taken in chunks (`minivae.engine.batching`).
"""

import numpy as np

from .engine.batching import sum_gradients
from .engine.checks import check_eps, check_rng, check_x
from .engine.objective import resolve
from .engine.registry import register_closed_form
from .gaussian import kl_to_standard_normal, kl_to_standard_normal_backward
from .log_weights import as_rows, log_weights_backward, log_weights_forward
from .networks import (
    decoder_backward,
    decoder_forward,
    encoder_backward,
    encoder_forward,
)
from .subsampling import kept_rows, subsampled


def gradient(model, x, eps, bound, estimator, grads, scale=1.0, select=kept_rows):
    """Add ``scale`` times the gradient of the images' bounds to ``grads``.

    Each sample has three coefficients. ``theta`` is the weight of the decoder's
    gradient, ``path`` of what reaches the encoder through z, and ``score`` of what
    reaches it through the density log q at fixed z. For the plain gradient they are
    c, c and -c, and this is what `minivae.minimal.bound_and_grad` does.

    Parameters
    ----------
    model : VAE
    x : ndarray of shape (B, D)
    eps : list of ndarray of shape (B, K, L)
        One per stochastic layer.
    bound : callable
        log_w -> value, c, dc: the bound, and its first and second derivative with
        respect to each log-weight.
    estimator : callable
        bound, log_w -> value, theta, path, score: how the coefficients follow from the
        derivatives. Most estimators have the same mean, and differ in their noise.
    grads : Params
        Changed in place.
    scale : float
        1 / (images of the batch), for the gradient of the batch's mean.
    select : callable
        Which rows go through the decoder's backward pass.

    Returns
    -------
    value : ndarray of shape (B,)
        The bound of each image, in nats.
    """
    q1, q1_hs = encoder_forward(model, x)  # mu, log_sigma (B, L_1)
    log_w, cache = log_weights_forward(model, x, q1, eps)  # (B, K)  eq. 8.1
    value, theta, path, score = estimator(bound, log_w)  # (B,), (B, K) each
    # d theta = sum_k theta_k d log p(x, z_k) / d theta                        eq. 10.5
    # d phi   = sum_k path_k (d log w_k / d z_k) (d z_k / d phi)
    #                 + score_k d log q(z_k|x) / d phi
    dq1 = log_weights_backward(
        model,
        cache,
        grads,
        theta=scale * theta,
        path=scale * path,
        score=scale * score,
        select=select,
    )
    encoder_backward(model, dq1, q1_hs, grads)
    return value


@register_closed_form(of="elbo")
def elbo_kl(model, x, eps, grads, scale=1.0):
    """`gradient` of the ELBO as reconstruction less closed-form KL (eq. 4.1).

    It is no function of the log-weights: log p(x|z) is sampled and the KL is not. So
    its forward and backward pass are its own, and shorter.
    """
    (eps,), ops = eps, model.ops  # one stochastic layer
    (mu, log_sigma), q1_hs = encoder_forward(model, x)
    z = ops.reparameterize(mu, log_sigma, eps)  # (B, K, L)  eq. 7.1
    log_px, cache = decoder_forward(model, as_rows(z), x)
    value = log_px.mean(axis=1) - kl_to_standard_normal(mu, log_sigma)  # eq. 4.1
    # each sample has the weight 1 / K: coef in p's parameters, and here in dz, by which
    # alone it reaches q
    theta = np.full_like(x, scale / eps.shape[1], shape=len(as_rows(z)))
    dz = theta[:, None] * decoder_backward(model, x, cache, grads=grads, coef=theta)
    dz, zeros = dz.reshape(z.shape), np.zeros(log_px.shape, model.dtype, like=x)
    through_z = ops.reparameterize_backward(dz, eps, log_sigma, path=zeros, score=zeros)
    dkl = kl_to_standard_normal_backward(mu, log_sigma)
    dq1 = [dhead - scale * d for dhead, d in zip(through_z, dkl)]
    encoder_backward(model, dq1, q1_hs, grads)
    return value


def add_gradient(objective, model, x, eps, uniform, grads, scale, select=kept_rows):
    """`gradient` by the bound and the estimator of an `Objective`, or its closed form.

    ``uniform`` chooses the samples of a subsampled backward pass.
    """
    if objective.closed_form is not None:
        return objective.closed_form(model, x, eps, grads, scale)
    bound, estimator = objective.bound, objective.estimator
    if objective.backward != "all":
        how = {"tau": objective.tau, "uniform": uniform}
        estimator = subsampled(estimator, objective.backward, **how)
    return gradient(model, x, eps, bound, estimator, grads, scale, select)


def bound_and_grad(
    model,
    x,
    eps,
    bound="iwae",
    estimator="reparam",
    *,
    backward="all",
    tau=0.1,
    rng=None,
    **options,
):
    """A bound on log p(x), averaged over the batch, and its gradient.

    Parameters
    ----------
    model : VAE
    x : ndarray of shape (B, D)
        Zeros and ones.
    eps : list of ndarray of shape (B, K, L)
        Standard normal noise, one array per stochastic layer: ``model.draw_eps(B, K,
        rng)``.
    bound : str
        A name in `minivae.BOUNDS`; or "elbo_kl", the ELBO with its KL term in closed
        form (one stochastic layer).
    estimator : str
        A name in `minivae.ESTIMATORS`.
    backward : str
        "all" samples, or fewer of them with the same mean: "sparse" keeps the samples
        that count, with ``tau`` for a threshold; "single" keeps one per image.
    tau : float
    rng : numpy.random.Generator or int
        Chooses the samples; needed unless ``backward`` is "all".
    **options
        Of the bound and of the estimator: ``m``, ``beta``, ``alpha``, ``baseline``.

    Returns
    -------
    value : float
        The bound in nats, mean over the batch.
    grads : Params
        Name -> array, like ``model.params``: the gradient of that mean. Step along it
        to raise the bound.

    Raises
    ------
    ValueError
        For an unknown name, wrong shapes, values that are not finite, and an x that is
        not binary.
    """
    x = check_x(model, x)
    eps = check_eps(eps, len(x), model.latent_dims, model.dtype)
    B, K, _ = eps[0].shape
    how = {"backward": backward, "tau": tau}
    objective = resolve(model, K, bound, estimator, options, **how)
    if backward != "all" and rng is None:
        raise ValueError(f"backward {backward!r} chooses samples: it needs rng")
    n = objective.uniform_numbers(K)
    uniform = check_rng(rng).random((B, n)) if n else np.empty((B, 0))
    x, uniform = model.to_device(x), model.to_device(uniform)
    eps = [model.to_device(e) for e in eps]

    def add(part, grads):
        return add_gradient(
            objective,
            model,
            x=x[part],
            eps=[e[part] for e in eps],
            uniform=uniform[part],
            grads=grads,
            scale=1 / B,
        )

    values, grads = sum_gradients(add, model, B, K)
    return float(values.mean()), grads
