"""A model in one .npz of plain arrays: its parameters by their names.

The architecture follows from the names and the shapes, so another program can write
such a file as easily as read it.
"""

import numpy as np

from ..kernels.device import to_host
from .checks import DTYPES
from .files import write_atomically
from .npz import open_npz

HEADS = ("mu", "log_sigma", "logits")
KEPT_AS = (*DTYPES, "float16")  # which a model reads as float32


def save_model(path, model, half):
    """Write ``model``'s parameters, its likelihood and, if it is fixed, its x_sigma."""
    dtype, arrays = np.dtype(np.float16) if half else model.dtype, {}
    for name, array in model.params.items():
        with np.errstate(over="ignore"):
            arrays[name] = to_host(array).astype(dtype)
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{path}: {name} is not finite as {dtype}; nothing saved")
    arrays["likelihood"] = model.likelihood
    if model.x_sigma is not None:
        arrays["x_sigma"] = model.x_sigma
    write_atomically(path, lambda file: np.savez(file, **arrays))


def read_model(path):
    """What `save_model`, or another program, wrote.

    Returns
    -------
    settings : dict
        Arguments of `minivae.VAE`.
    arrays : dict
        Every parameter that is there, whether or not that model has it.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    arrays, said = {}, {}
    with open_npz(path, "a model") as (header, read):

        def linear(name):
            """Take the matrix and the bias of a layer; whether a matrix is there."""
            for key, axes in ((f"{name}.W", 2), (f"{name}.b", 1)):
                found = header(key)
                if found is None:
                    continue
                if found[0].name not in KEPT_AS or len(found[1]) != axes:
                    raise ValueError(
                        f"{path}: {key} must have {axes} axes and be of"
                        f" {' or '.join(KEPT_AS)}; got {found[0]} {found[1]}"
                    )
                arrays[key] = read(key)
                if found[0] == np.float16:
                    arrays[key] = arrays[key].astype(np.float32)
            return f"{name}.W" in arrays

        def network(name):
            """Take its layers; whether it has a head."""
            i = 1
            while linear(f"{name}.hidden{i}"):
                i += 1
            return sum(linear(f"{name}.{head}") for head in HEADS) > 0

        l = 1
        while network(f"q{l}") | network(f"p{l}"):
            l += 1
        for name in ("likelihood", "x_sigma"):
            if header(name) is not None:
                said[name] = read(name).item() if header(name)[1] == () else None
    return architecture(path, arrays) | said, arrays


def architecture(path, arrays):
    """The arguments of `minivae.VAE` that follow from the shapes of q's matrices, and
    from which heads p has.
    """
    latent_dims, hidden_dims = [], []
    while (mu := f"q{len(latent_dims) + 1}.mu.W") in arrays:
        name, widths = mu.removesuffix("mu.W"), []
        while (W := f"{name}hidden{len(widths) + 1}.W") in arrays:
            widths.append(arrays[W].shape[1])
        latent_dims.append(arrays[mu].shape[1])
        hidden_dims.append(widths)
    if not latent_dims:
        raise ValueError(f"{path}: not a model: it has no array called q1.mu.W")
    first = arrays["q1.hidden1.W" if hidden_dims[0] else "q1.mu.W"]
    return {
        "x_dim": first.shape[0],
        "latent_dims": latent_dims,
        "hidden_dims": hidden_dims,
        "likelihood": "bernoulli" if "p1.logits.W" in arrays else "gaussian",
        "dtype": first.dtype.name,
    }


def check_parameters(path, params, arrays):
    """Refuse ``arrays`` that are not exactly those of a model's ``params``."""
    for name in [*params, *(arrays.keys() - params)]:
        want, got = (
            f"{group[name].dtype} {group[name].shape}" if name in group else "not there"
            for group in (params, arrays)
        )
        if want != got:
            raise ValueError(
                f"{path}: not a whole model: {name} must be {want}; got {got}"
            )
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{path}: {name} holds NaN or infinity")
