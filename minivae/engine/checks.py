"""Bad input is met here, before any work: each check returns its argument as the code
wants it, or raises an error that says what was wrong and what would be right.
"""

import numpy as np

from ..kernels.device import to_host

DTYPES = ("float32", "float64")


def choose(what, name, names):
    """``name``, if it is one of ``names``; else a ValueError that lists them."""
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}; got {name!r}")
    return name


def check_size(name, value, least=1):
    """``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    return int(value)


def check_seed(name, value):
    """``value`` as an int of at least 0."""
    return check_size(name, value, least=0)


def check_array(name, array, shape, dtype):
    """``array`` as finite numbers of ``dtype``; a None in ``shape`` is any n >= 1."""
    array = to_host(array)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}")
    if array.ndim != len(shape) or any(
        got == 0 or want not in (got, None) for got, want in zip(array.shape, shape)
    ):
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(
            f"{name} must be of shape ({wanted}) with n >= 1; got {array.shape}"
        )
    array = np.ascontiguousarray(array, dtype)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array


def check_grey(name, images, x_dim, dtype):
    """``images`` as (n, x_dim) grey values in [0, 1]."""
    images = check_array(name, images, (None, x_dim), dtype)
    check_range(name, images)
    return images


def check_range(name, images):
    """Refuse values outside [0, 1]."""
    low, high = np.min(images), np.max(images)
    if not (low >= 0 and high <= 1):  # nor is a NaN inside
        raise ValueError(f"{name} must lie in [0, 1]; got {low:g} to {high:g}")


def check_binary(name, x, x_dim, dtype):
    """``x`` as (n, x_dim) zeros and ones."""
    x = check_array(name, x, (None, x_dim), dtype)
    if not ((x == 0) | (x == 1)).all():
        raise ValueError(
            f"{name} must hold only 0 and 1 for a Bernoulli likelihood: binarize grey"
            " pixels first, or ask for likelihood 'bernoulli-grey' by name"
        )
    return x


def check_eps(eps, batch, latent_dims, dtype):
    """``eps`` as a list of (batch, K, L), one array per stochastic layer, one K."""
    if hasattr(eps, "shape") or len(eps) != len(latent_dims):
        raise ValueError(
            f"eps must be a list of {len(latent_dims)} arrays, one per stochastic layer"
        )
    first = np.shape(eps[0])
    K = first[1] if len(first) == 3 and first[1] > 0 else None
    return [
        check_array(f"eps[{i}]", array, (batch, K, L), dtype)
        for i, (array, L) in enumerate(zip(eps, latent_dims))
    ]


def check_x(model, x):
    """``x`` as the model's likelihood wants it."""
    if model.likelihood == "bernoulli":
        return check_binary("x", x, model.x_dim, model.dtype)
    if model.likelihood == "bernoulli-grey":
        return check_grey("x", x, model.x_dim, model.dtype)
    return check_array("x", x, (None, model.x_dim), model.dtype)


def check_finite(model):
    """``model``, if all its parameters are numbers."""
    for name, array in model.params.items():
        if not np.isfinite(array).all():
            raise ValueError(f"the model's parameter {name} holds NaN or infinity")
    return model
