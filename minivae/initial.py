"""The parameters that a model starts with."""

import numpy as np

from .engine.checks import check_array, check_range
from .layers import linear_init, mlp_init


def initial_arrays(model, rng, x_mean=None):
    """All parameters of a fresh ``model``, a dict of name -> array: Glorot-uniform
    weights and zero biases; but the output bias starts at ``x_mean`` (D,), if given, or
    for a Bernoulli at its logit.
    """
    p1_heads = ("logits",)
    if model.likelihood == "gaussian":
        p1_heads = ("mu", "log_sigma") if model.x_sigma is None else ("mu",)
    arrays, units = {}, (model.x_dim, *model.latent_dims)  # of z_0 = x, z_1, z_2, ...
    for l, widths in enumerate(model.hidden_dims, start=1):
        below, above = units[l - 1], units[l]
        p_heads = p1_heads if l == 1 else ("mu", "log_sigma")
        for name, n_in, widths_up, n_out, heads in (
            (f"q{l}", below, widths, above, ("mu", "log_sigma")),
            (f"p{l}", above, widths[::-1], below, p_heads),
        ):
            mlp_init(arrays, name, n_in, widths_up, rng, model.dtype)
            n_last = (n_in, *widths_up)[-1]  # without hidden layers, the input
            for head in heads:
                linear_init(arrays, f"{name}.{head}", n_last, n_out, rng, model.dtype)
    if x_mean is not None:
        x_mean = check_array("x_mean", x_mean, (model.x_dim,), np.float64)
        if model.likelihood != "gaussian":
            check_range("x_mean", x_mean)
            x_mean = np.clip(x_mean, 0.001, 0.999)
            x_mean = np.log(x_mean / (1 - x_mean))
        arrays[f"p1.{p1_heads[0]}.b"][...] = x_mean
    return arrays
