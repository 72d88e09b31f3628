"""Bad input is met here, before any work: each check returns its argument as the code
wants it, or raises an error that says what was wrong and what would be right.
"""

from difflib import get_close_matches
from numbers import Real

import numpy as np

from ..kernels.device import to_host

DTYPES = ("float32", "float64")
ELSEWHERE = {"lr": "learning_rate", "bs": "batch", "n_epochs": "epochs"}


def choose(what, name, names):
    """``name``, if it is one of ``names``; else a ValueError that lists them."""
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}; got {name!r}")
    return name


def did_you_mean(name, names):
    """The end of an error on an unknown ``name``: the nearest of ``names``, if any."""
    near = get_close_matches(name, names, n=1)
    if ELSEWHERE.get(name) in names:  # what other libraries call it
        near = [ELSEWHERE[name]]
    return f": did you mean {near[0]}?" if near else ""


def check_size(name, value, least=1):
    """``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    return int(value)


def check_sizes(name, sizes, example):
    """``sizes`` as a tuple of ints of at least 1."""
    if isinstance(sizes, str) or not np.iterable(sizes):
        raise TypeError(f"{name} must be a tuple, as in {example}; got {sizes!r}")
    return tuple(check_size(name, n) for n in sizes)


def check_seed(name, value):
    """``value`` as an int of at least 0."""
    return check_size(name, value, least=0)


def check_real(name, value):
    """``value`` as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number; got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is too large a number") from error


def check_rng(rng):
    """``rng`` as a generator: a whole number is its seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(
            "rng must be a numpy.random.Generator or a whole number, its seed;"
            f" got {rng!r}"
        )
    return np.random.default_rng(check_seed("rng", rng))


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
        advice = ": divide by the value of white" if high > 1 else ""
        raise ValueError(f"{name} must lie in [0, 1]; got {low:g} to {high:g}{advice}")


def check_images(name, images, model):
    """``images`` (n, D) before they are binarized, as the model's likelihood wants
    them: grey values in [0, 1], or for "gaussian" any real numbers.

    Bytes (uint8) lie between 0 and 255, which is said by their type alone.
    """
    images = to_host(images)
    if images.dtype == np.uint8 and images.size:
        if images.max() <= 1:
            raise ValueError(
                f"{name} holds bytes up to {images.max()}, where 255 is white: give"
                " zeros and ones as booleans or floats"
            )
        images = images / np.float32(255)
    if model.likelihood == "gaussian":
        return check_array(name, images, (None, model.x_dim), model.dtype)
    return check_grey(name, images, model.x_dim, model.dtype)


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
