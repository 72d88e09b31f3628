"""The networks of a model, forward and backward side by side: a conditional Gaussian,
the encoder and the decoder. Each is an MLP, a chain of hidden layers, with heads on top
of it, which are linear layers.

    network    computes               hidden layers        heads
    q1 q2 ...  q_l(z_l | z_{l-1})     hidden_dims[l - 1]   mu, log_sigma
    p1         p_1(x | z_1)           the same reversed    logits, or mu and log_sigma
    p2 ...     p_l(z_{l-1} | z_l)     the same reversed    mu, log_sigma

Stochastic layers are numbered from the data: z_1 is nearest x, and z_0 is x.
"""

from functools import reduce

import numpy as np

from .bernoulli import bernoulli_backward, bernoulli_forward
from .gaussian import log_density, log_density_backward
from .layers import linear_backward, linear_forward, mlp_backward, mlp_forward

# A conditional Gaussian


def gaussian_forward(model, name, x):
    """mu and log_sigma (R, L) of the network ``name``, from its input x (R, I).

    Returns
    -------
    heads : list of two ndarray of shape (R, L)
    hs : list of ndarray
        From `mlp_forward`, for the backward.
    """
    hs = mlp_forward(model, name, x)
    mu = linear_forward(model, f"{name}.mu", hs[-1])
    if f"{name}.log_sigma.W" in model.params:
        log_sigma = linear_forward(model, f"{name}.log_sigma", hs[-1])
    else:  # the fixed sigma of a Gaussian likelihood
        log_sigma = np.full_like(mu, np.log(model.x_sigma))
    return [mu, log_sigma], hs


def gaussian_backward(model, name, dheads, hs, *, grads=None, coef=None, to_input=True):
    """dx (R, I), given dmu and dlog_sigma (R, L), and the forward's ``hs``.

    ``grads``, ``coef`` and ``to_input`` are as for `linear_backward`.
    """
    dhs = [
        linear_backward(model, f"{name}.{head}", dhead, hs[-1], grads=grads, coef=coef)
        for head, dhead in zip(("mu", "log_sigma"), dheads)
        if f"{name}.{head}.W" in model.params  # a fixed sigma's gradient ends here
    ]
    how = {"grads": grads, "coef": coef, "to_input": to_input}
    return mlp_backward(model, name, reduce(np.add, dhs), hs, **how)


# The encoder q(z_1|x): once per image, however many samples


def encoder_forward(model, x):
    """mu and log_sigma (B, L_1) of q_1, from x (B, D), and a cache (eq. 1.2)."""
    return gaussian_forward(model, "q1", x)


def encoder_backward(model, dheads, hs, grads):
    """Add q_1's gradients to ``grads``, given dmu and dlog_sigma (B, L_1)."""
    gaussian_backward(model, "q1", dheads, hs, grads=grads, to_input=False)


# The decoder p(x|z_1)


def decoder_forward(model, z, x):
    """log p(x|z), in nats, of each image under each of its K samples.

    Parameters
    ----------
    z : ndarray of shape (B * K, L_1)
        Row r is sample r % K of image r // K.
    x : ndarray of shape (B, D)

    Returns
    -------
    log_px : ndarray of shape (B, K) float64
    cache : tuple
        Arrays of B * K rows.
    """
    if model.likelihood == "gaussian":
        heads, hs = gaussian_forward(model, "p1", z)
        rows = np.repeat(x, len(z) // len(x), axis=0)  # (B * K, D)
        return log_density(rows, *heads).reshape(len(x), -1), (heads, hs)
    hs = mlp_forward(model, "p1", z)
    log_px, a = bernoulli_forward(model, "p1.logits", hs[-1], x)
    return log_px, (a, hs)


def decoder_backward(model, x, cache, **how):
    """d log p(x|z) / dz with seed 1 per row, (R, L_1).

    The keywords ``grads`` and ``coef`` are those of `linear_backward`. ``cache`` may be
    overwritten. If it was cut to some rows, ``x`` holds the image of each row.
    """
    output, hs = cache
    if model.likelihood == "gaussian":
        K = len(hs[-1]) // max(1, len(x))  # there may be no rows, and no images
        x = np.repeat(x, K, axis=0)
        _, *dheads = log_density_backward(x, *output)
        return gaussian_backward(model, "p1", dheads, hs, **how)
    dh = bernoulli_backward(model, "p1.logits", output, hs[-1], x, **how)
    return mlp_backward(model, "p1", dh, hs, **how)
