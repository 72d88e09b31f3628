"""The whole walk, forward and back: x -> a bound -> the gradient of every parameter.

    x -> q_1 -> z -> p -> log_w -> bound -> theta, path, score
    dq_1 <- dz <- dp <- theta, path, score

The minibatch is shared among threads, and walked in chunks of whole images. An image's
coefficients need only its own K log-weights, so a chunk goes all the way forward and
back while its logits are in the cache; the (B, K, D) array of all logits never exists.
(A GPU takes far larger chunks, mostly the whole minibatch.)
"""

import inspect
from functools import cache, partial

import numpy as np

from .bounds import BOUNDS
from .estimators import ESTIMATORS, IWAE_ONLY, draw_for_thin, most_kept, thin
from .gaussian import (
    kl_to_standard_normal,
    kl_to_standard_normal_backward,
    reparameterize,
    reparameterize_backward,
)
from .inputs import check_eps, choose
from .model import (
    check_x,
    chunks,
    decoder_backward,
    decoder_forward,
    log_weights_backward,
    log_weights_forward,
    part,
    q1_backward,
    q1_forward,
    shares_of,
)
from .threads import each

BOUND_NAMES = (*BOUNDS, "elbo_kl")
BACKWARDS = ("all", "single", "sparse")


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
    rng : numpy.random.Generator
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
    objective = check_objective(model, bound, estimator, **options)
    check_backward(bound, backward, tau, rng)
    x = check_x(model, x)
    eps = check_eps(eps, len(x), model.latent_dims, model.dtype)
    B, K, _ = eps[0].shape
    x, eps = model.put(x), [model.put(e) for e in eps]
    uniform = model.put(draw_for_thin(B, K, backward, rng))

    def inputs(images):
        return x[images], part(eps, images), uniform[images]

    value, grads = walk(model, B, K, inputs, objective, backward, tau)
    return float(value.mean()), grads


def walk(model, B, K, inputs, objective, backward="all", tau=0.1, room=None):
    """`bound_and_grad` without its checks: each thread walks with its share of images.

    On a GPU the host does not wait for it, if there is a ``room``.

    Parameters
    ----------
    inputs : callable
        A slice of the minibatch's images -> their x (B, D), their eps, and the uniform
        numbers of `thin`; called by the thread that needs them.
    objective
        From `check_objective`.
    room : int, optional
        As for `most_kept`. Left out, the host counts the samples that are kept.

    Returns
    -------
    value : ndarray of shape (B,)
        Of each image.
    grads : Params
        Of their mean.
    """
    walk_share = elbo_kl_share if objective is None else log_weight_share

    def on_share(images):
        x, eps, uniform = inputs(images)
        thinning = backward, tau, room, uniform
        return walk_share(model, x, eps, 1 / B, objective, thinning)

    values, grads = zip(*each(on_share, shares_of(model, 0, B, K)))
    for other in grads[1:]:
        grads[0].vector += other.vector
    return np.concatenate(values), grads[0]


def log_weight_share(model, x, eps, weight, objective, thinning):
    """The walk of one thread, over its images: the bound of each, and the gradient of
    ``weight`` times their sum.

    Returns
    -------
    value : ndarray of shape (B,)
    grads : Params
    """
    B, K, _ = eps[0].shape
    bound_of, rows_of = objective
    backward, tau, room, uniform = thinning
    value, grads = np.empty(B, like=x), model.params.unwritten_like()

    q1, q1_cache = q1_forward(model, x)  # mu, log_sigma: (B, L_1) each
    dmu, dlog_sigma = (np.empty_like(head) for head in q1)
    for images in chunks(model, B, K, backward):
        here = x[images], part(q1, images), part(eps, images)
        log_w, cache = log_weights_forward(model, *here)
        # the turn: log-weights -> a bound -> how much each sample counts
        value[images], theta, path, score = rows_of(bound_of, log_w)
        if backward != "all":
            theta, path = thin(theta, path, backward, tau, uniform[images])
        # the way back; the batch mean is one more factor
        rows = weight * theta, weight * path, weight * score
        most = most_kept(*log_w.shape, backward, tau, room)
        dheads = log_weights_backward(model, *rows, cache, grads, most)
        dmu[images], dlog_sigma[images] = dheads
        del cache  # its memory is the next chunk's, and still in the processor's cache
    q1_backward(model, (dmu, dlog_sigma), q1_cache, grads)
    return value, grads


def elbo_kl_share(model, x, eps, weight, *_):
    """The same for the ELBO as reconstruction less closed-form KL (eq. 4.1).

    It is no function of the log-weights: log p(x|z) is sampled and the KL is not. So
    its walk is its own, and shorter.
    """
    B, K, _ = eps[0].shape
    value, grads = np.empty(B, like=x), model.params.unwritten_like()

    (mu, log_sigma), q1_cache = q1_forward(model, x)
    kl = kl_to_standard_normal(mu, log_sigma)  # (B,)
    dkl = kl_to_standard_normal_backward(mu, log_sigma)
    dmu, dlog_sigma = (-weight * d for d in dkl)  # the KL's part
    for images in chunks(model, B, K):
        q = mu[images], log_sigma[images]
        z = reparameterize(*q, eps[0][images], model.kernels)
        log_px, cache = decoder_forward(model, z, x[images])
        value[images] = log_px.mean(axis=1) - kl[images]  # eq. 4.1
        # the way back: each sample counts 1 / K, and reaches q through z only
        theta = np.full_like(x, weight / K, shape=(log_px.size, 1))
        dz = theta * decoder_backward(model, theta[:, 0], cache, grads)
        path = score = np.zeros(log_px.shape, model.dtype, like=x)
        draw = dz.reshape(z.shape), eps[0][images], log_sigma[images]
        dheads = reparameterize_backward(*draw, path, score, model.kernels)
        dmu[images] += dheads[0]
        dlog_sigma[images] += dheads[1]
    q1_backward(model, (dmu, dlog_sigma), q1_cache, grads)
    return value, grads


def check_objective(model, bound, estimator, **options):
    """The bound and the estimator with their options filled in.

    Returns
    -------
    objective : pair of callable, or None for "elbo_kl"
        bound_of: log_w -> value, c, dc; and rows_of: bound_of, log_w -> value, theta,
        path, score.

    Raises
    ------
    ValueError
        For names that are unknown or do not go together, and for options that are
        missing or nobody's.
    """
    choose("bound", bound, BOUND_NAMES)
    choose("estimator", estimator, ESTIMATORS)
    layers = len(model.latent_dims)
    if bound == "elbo_kl" and (layers != 1 or estimator != "reparam"):
        raise ValueError(
            "bound 'elbo_kl' has a closed form for one stochastic layer, and estimator"
            f" 'reparam' only; got {layers} layers and estimator {estimator!r}"
        )
    if estimator in IWAE_ONLY and bound != "iwae":
        raise ValueError(
            f"estimator {estimator!r} is for bound 'iwae' only, not {bound!r}:"
            f" {IWAE_ONLY[estimator]}"
        )
    bound_of, rows_of = BOUNDS.get(bound), ESTIMATORS[estimator]
    taken = {}
    for what, name, function in (
        ("bound", bound, bound_of),
        ("estimator", estimator, rows_of),
    ):
        taken[what] = {}
        for option, needed in option_names(function).items():
            if option in options:
                taken[what][option] = options[option]
            elif needed:
                raise ValueError(f"{what} {name!r} needs the option {option}")
    nobodys = options.keys() - taken["bound"].keys() - taken["estimator"].keys()
    if nobodys:
        raise ValueError(
            f"bound {bound!r} and estimator {estimator!r} take no option"
            f" {', '.join(sorted(nobodys))}"
        )
    if bound_of is None:
        return None
    bound_of = partial(bound_of, kernels=model.kernels, **taken["bound"])
    return bound_of, partial(rows_of, **taken["estimator"])


@cache
def option_names(function):
    """The options of a bound or an estimator: name -> whether it is needed."""
    if function is None:
        return {}
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name != "kernels"
    }


def check_backward(bound, backward, tau, rng):
    """Refuse a way back that is unknown, or that cannot choose its samples."""
    choose("backward", backward, BACKWARDS)
    if bound == "elbo_kl" and backward != "all":
        raise ValueError(f"bound 'elbo_kl' has backward 'all' only; got {backward!r}")
    if backward != "all" and rng is None:
        raise ValueError(f"backward {backward!r} chooses samples: it needs rng")
    if not 0 < tau < np.inf:
        raise ValueError(f"tau must be positive; got {tau!r}")
