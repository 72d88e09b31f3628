"""The whole walk, forward and back: x -> a bound -> the gradient of every parameter.

    x -> q_1 -> z -> p -> log_w -> bound -> theta, path, score
    dq_1 <- dz <- dp <- theta, path, score

The minibatch is walked in chunks of whole images. An image's coefficients need only its
own K log-weights, so a chunk goes all the way forward and back while its logits are in
the cache; the (B, K, D) array of all logits never exists.
"""

from functools import partial

import numpy as np

from .bounds import BOUNDS
from .estimators import ESTIMATORS
from .gaussian import (
    kl_to_standard_normal,
    kl_to_standard_normal_backward,
    reparameterize,
    reparameterize_backward,
)
from .inputs import check_binary, check_eps, choose
from .model import (
    chunks,
    decoder_backward,
    decoder_forward,
    log_weights_backward,
    log_weights_forward,
    part,
    q1_backward,
    q1_forward,
)

BOUND_NAMES = (*BOUNDS, "elbo_kl")


def bound_and_grad(model, x, eps, bound="iwae", estimator="reparam"):
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

    Returns
    -------
    value : float
        The bound in nats, mean over the batch.
    grads : dict
        Name -> array, like ``model.params``: the gradient of that mean. Step along it
        to raise the bound.

    Raises
    ------
    ValueError
        For an unknown name, wrong shapes, values that are not finite, and an x that is
        not binary.
    """
    check_objective(model, bound, estimator)
    x = check_binary("x", x, model.x_dim, model.dtype)
    eps = check_eps(eps, len(x), model.latent_dims, model.dtype)
    if bound == "elbo_kl":
        return elbo_kl_and_grad(model, x, eps)
    bound_of = partial(BOUNDS[bound], kernels=model.kernels)
    B, K, _ = eps[0].shape
    value = np.empty(B)
    grads = {name: np.zeros_like(array) for name, array in model.params.items()}

    q1, q1_cache = q1_forward(model, x)  # mu, log_sigma: (B, L_1) each
    dmu, dlog_sigma = (np.empty_like(head) for head in q1)
    for images in chunks(B, K):
        here = x[images], part(q1, images), part(eps, images)
        log_w, cache = log_weights_forward(model, *here)
        # the turn: log-weights -> a bound -> how much each sample counts
        value[images], theta, path, score = ESTIMATORS[estimator](bound_of, log_w)
        # the way back; the batch mean is one more factor
        rows = theta / B, path / B, score / B
        dheads = log_weights_backward(model, *rows, cache, grads)
        dmu[images], dlog_sigma[images] = dheads
    q1_backward(model, (dmu, dlog_sigma), q1_cache, grads)
    return float(value.mean()), grads


def elbo_kl_and_grad(model, x, eps):
    """The ELBO as reconstruction less closed-form KL (eq. 4.1), and its gradient.

    It is no function of the log-weights: log p(x|z) is sampled and the KL is not. So
    its walk is its own, and shorter.
    """
    B, K, _ = eps[0].shape
    value = np.empty(B)
    grads = {name: np.zeros_like(array) for name, array in model.params.items()}

    (mu, log_sigma), q1_cache = q1_forward(model, x)
    kl = kl_to_standard_normal(mu, log_sigma)  # (B,)
    dmu, dlog_sigma = kl_to_standard_normal_backward(mu, log_sigma)
    dmu, dlog_sigma = -dmu / B, -dlog_sigma / B  # the KL's part
    for images in chunks(B, K):
        q = mu[images], log_sigma[images]
        z = reparameterize(*q, eps[0][images], model.kernels)
        log_px, cache = decoder_forward(model, z, x[images])
        value[images] = log_px.mean(axis=1) - kl[images]  # eq. 4.1
        # the way back: each sample counts 1 / K, and reaches q through z only
        theta = np.full((log_px.size, 1), 1 / (B * K), model.dtype)
        dz = theta * decoder_backward(model, theta[:, 0], cache, grads)
        path = score = np.zeros(log_px.shape, model.dtype)
        draw = dz.reshape(z.shape), eps[0][images], log_sigma[images]
        dheads = reparameterize_backward(*draw, path, score, model.kernels)
        dmu[images] += dheads[0]
        dlog_sigma[images] += dheads[1]
    q1_backward(model, (dmu, dlog_sigma), q1_cache, grads)
    return float(value.mean()), grads


def check_objective(model, bound, estimator):
    """Refuse names that are unknown, or that do not go together with this model."""
    choose("bound", bound, BOUND_NAMES)
    choose("estimator", estimator, ESTIMATORS)
    layers = len(model.latent_dims)
    if bound == "elbo_kl" and (layers != 1 or estimator != "reparam"):
        raise ValueError(
            "bound 'elbo_kl' has a closed form for one stochastic layer, and estimator"
            f" 'reparam' only; got {layers} layers and estimator {estimator!r}"
        )
