"""The model once more, from SciPy alone: it shares no code with minivae but the names
of the parameters.
"""

import numpy as np
from scipy import special, stats


def network(params, name, x):
    i = 1
    while f"{name}.hidden{i}.W" in params:
        x = np.tanh(
            np.einsum("...i,ij->...j", x, params[f"{name}.hidden{i}.W"])
            + params[f"{name}.hidden{i}.b"]
        )
        i += 1
    return {
        head: np.einsum("...i,ij->...j", x, params[f"{name}.{head}.W"])
        + params[f"{name}.{head}.b"]
        for head in ("mu", "log_sigma", "logits")
        if f"{name}.{head}.W" in params
    }


def draw(params, x, eps):
    """z_1, z_2, ...: each (B, K, L)."""
    z, below = [], x[:, None, :]
    for l, e in enumerate(eps, start=1):
        head = network(params, f"q{l}", below)
        z.append(head["mu"] + np.exp(head["log_sigma"]) * e)
        below = z[-1]
    return z


def log_q(params, x, z):
    """(B, K)"""
    total, below = 0, x[:, None, :]
    for l, z_l in enumerate(z, start=1):
        head = network(params, f"q{l}", below)
        total = total + stats.norm.logpdf(
            z_l, head["mu"], np.exp(head["log_sigma"])
        ).sum(axis=-1)
        below = z_l
    return total


def log_px(params, x, z_1):
    """log p(x|z_1), (B, K)."""
    logits = network(params, "p1", z_1)["logits"]
    return (
        x[:, None, :] * special.log_expit(logits)
        + (1 - x[:, None, :]) * special.log_expit(-logits)
    ).sum(axis=-1)


def log_p(params, x, z):
    """log p(x, z_1, z_2, ...), (B, K)."""
    total = log_px(params, x, z[0])
    for l in range(2, len(z) + 1):
        head = network(params, f"p{l}", z[l - 1])
        total = total + stats.norm.logpdf(
            z[l - 2], head["mu"], np.exp(head["log_sigma"])
        ).sum(axis=-1)
    return total + stats.norm.logpdf(z[-1]).sum(axis=-1)
