"""The whole walk, down and then up: x -> bound -> the gradient of every parameter.

    x -> q_1 -> z -> p -> log_w -> bound -> (theta, path, score) -> p backward -> z backward -> q_1 backward

The minibatch is walked in chunks of whole images. An image's coefficients need only its own K log-weights, so a chunk
goes all the way down and up again while its logits are in the cache; the (B, K, D) array of all logits never exists.
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
from .model import (
    check_inputs,
    chunks,
    decoder_backward,
    decoder_forward,
    log_weights_backward,
    log_weights_forward,
    part,
    q1_backward,
    q1_forward,
)


def bound_and_grad(model, x, eps, bound="iwae", estimator="reparam"):
    """A bound on log p(x), averaged over the batch, and its gradient.

    Parameters
    ----------
    model : VAE
    x : ndarray of shape (B, D)
        Zeros and ones.
    eps : list of ndarray of shape (B, K, L)
        Standard normal noise, one array a stochastic layer: ``model.draw_eps(B, K, rng)``.
    bound : str
        A name in `minivae.BOUNDS`; or "elbo_kl", the ELBO with its KL term in closed form (one stochastic layer).
    estimator : str
        A name in `minivae.ESTIMATORS`.

    Returns
    -------
    value : float
        The bound in nats, mean over the batch.
    grads : dict
        Name -> array, like ``model.params``: the gradient of that mean. Step along it to raise the bound.

    Raises
    ------
    ValueError
        For an unknown name, wrong shapes, values that are not finite, and an x that is not binary.
    """
    x, eps = check_inputs(model, x, eps)
    choose("bound", bound, [*BOUNDS, "elbo_kl"])
    choose("estimator", estimator, ESTIMATORS)
    if bound == "elbo_kl":
        return elbo_kl_and_grad(model, x, eps, estimator)
    bound_of = partial(BOUNDS[bound], kernels=model.kernels)
    B, K, _ = eps[0].shape
    value = np.empty(B)
    grads = {name: np.zeros_like(array) for name, array in model.params.items()}

    q1, q1_cache = q1_forward(model, x)  # mu, log_sigma: (B, L_1) each
    dq1 = [np.empty_like(head) for head in q1]
    for images in chunks(B, K):
        # down
        log_w, cache = log_weights_forward(model, x[images], part(q1, images), part(eps, images))
        # the turn: log-weights -> a bound -> how much each sample counts
        value[images], theta, path, score = ESTIMATORS[estimator](bound_of, log_w)
        # up; the batch mean is one more factor
        dq1[0][images], dq1[1][images] = log_weights_backward(model, theta / B, path / B, score / B, cache, grads)
    q1_backward(model, dq1, q1_cache, grads)
    return value.mean(), grads


def elbo_kl_and_grad(model, x, eps, estimator):
    """The ELBO as reconstruction less closed-form KL (eq. 4.1), and its gradient.

    It is no function of the log-weights: log p(x|z) is sampled and the KL is not. So the walk differs at the turn only.
    """
    if len(eps) != 1 or estimator != "reparam":
        raise ValueError(
            "bound 'elbo_kl' has a closed form for one stochastic layer, and estimator 'reparam' only;"
            f" got {len(eps)} layers and estimator {estimator!r}"
        )
    B, K, _ = eps[0].shape
    value = np.empty(B)
    grads = {name: np.zeros_like(array) for name, array in model.params.items()}

    q1, q1_cache = q1_forward(model, x)
    kl = kl_to_standard_normal(*q1)  # (B,)  eq. 5.5
    dkl = kl_to_standard_normal_backward(*q1)
    dq1 = [np.empty_like(head) for head in q1]
    for images in chunks(B, K):
        mu, log_sigma, eps_1 = part((*q1, *eps), images)
        # down
        z = reparameterize(mu, log_sigma, eps_1, model.kernels)
        log_px, cache = decoder_forward(model, z, x[images])
        value[images] = log_px.mean(axis=1) - kl[images]  # eq. 4.1
        # up: each sample counts 1 / K, and only the way through z is sampled
        theta = np.full(log_px.size, 1 / (B * K), model.dtype)
        dz = (theta[:, None] * decoder_backward(model, theta, cache, grads)).reshape(z.shape)
        none = np.zeros(log_px.shape, model.dtype)
        dq1[0][images], dq1[1][images] = reparameterize_backward(dz, eps_1, log_sigma, none, none, model.kernels)
    q1_backward(model, [dhead - dkl_head / B for dhead, dkl_head in zip(dq1, dkl)], q1_cache, grads)
    return value.mean(), grads


def choose(what, name, names):
    """``name``, if it is one of ``names``; else a ValueError that lists them."""
    if name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}; got {name!r}")
    return name
