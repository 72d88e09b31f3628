"""The variational autoencoder: what a user holds."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .bernoulli import bernoulli_mean
from .engine import noise
from .engine.batching import map_images
from .engine.checks import (
    DTYPES,
    check_array,
    check_eps,
    check_real,
    check_rng,
    check_seed,
    check_size,
    check_sizes,
    check_x,
    choose,
)
from .engine.memory import check_memory
from .engine.model_file import check_parameters, read_model, save_model
from .engine.objective import resolve
from .engine.params import Params
from .engine.threads import alone
from .initial import initial_arrays
from .kernels import DEVICES, load_ops
from .kernels.device import require_device, to_device, to_host
from .layers import mlp_forward
from .log_weights import as_draws, as_rows, log_weights_forward
from .networks import encoder_forward, gaussian_forward

MOST_PARAMETERS, MOST_LAYERS = 50_000_000, 1000  # a slip or a stranger asks for more
# likelihood -> what -log of the mean weight is called, and what to know of it
NLL_NAMES = {
    "bernoulli": ("NLL", ""),
    "bernoulli-grey": (
        "pseudo-NLL",
        "the Bernoulli formula on grey values is no density of them, and this no"
        " likelihood: compare it with nothing but itself",
    ),
    "gaussian": ("NLL (density)", "of a density of grey values: it may be negative"),
}
LIKELIHOODS = tuple(NLL_NAMES)
TRAINED = Path(__file__).with_name("data") / "trained.npz"


class VAE:
    """A variational autoencoder with any number of stochastic layers.

    Parameters
    ----------
    x_dim : int
        Visible units, D.
    latent_dims : tuple of int
        Latent units of z_1, z_2, ...
    hidden_dims : tuple of tuple of int
        Hidden units of q_1, q_2, ...; p mirrors them (`minivae.networks`).
    likelihood : str
        "bernoulli": x holds zeros and ones. "bernoulli-grey": the same formula on grey
        values in [0, 1], which is no density of them; it has to be asked for by name.
        "gaussian": x is real, with a mean and a sigma from the decoder.
    x_sigma : float, optional
        A fixed sigma for a Gaussian likelihood.
    dtype : dtype
        float32, or float64 for gradient checks.
    rng : numpy.random.Generator or int
        Draws the Glorot-uniform weights; a whole number is a seed, here and in every
        method. Biases start at zero.
    x_mean : ndarray of shape (D,), optional
        The mean training image. The output bias starts at it; for a Bernoulli, at its
        logit, clipped to [0.001, 0.999].
    device : str
        "cpu"; or "cuda" for a GPU, where the arrays of ``params`` are then CuPy's. What
        the methods take and return is NumPy's on either.
    kernels : str, optional
        On a CPU "numba", which is the default, or "numpy" for the reference; on a GPU
        "cuda".

    Attributes
    ----------
    params : Params
        Name -> array, such as ``q1.hidden1.W`` of shape (in, out). Updated in place.
    ops : Ops
        The functions of the kernels' version.
    origin : dict or None
        Where the parameters were trained, which `minivae.train` and `minivae.load_run`
        fill in: the run's folder, its epoch, bound, k and estimator.

    Raises
    ------
    ValueError, TypeError
        For sizes that do not fit together, and for unknown names.
    ModuleNotFoundError, OSError
        For device "cuda" where the packages, the driver or the GPU is missing.
    """

    def __init__(
        self,
        x_dim: int,
        latent_dims: tuple[int, ...] = (50,),
        hidden_dims: tuple[tuple[int, ...], ...] = ((200, 200),),
        likelihood: str = "bernoulli",
        dtype: DTypeLike = np.float32,
        *,
        rng: np.random.Generator | int,
        x_mean: ArrayLike | None = None,
        x_sigma: float | None = None,
        device: str = "cpu",
        kernels: str | None = None,
    ):
        self.x_dim = check_size("x_dim", x_dim)
        self.latent_dims = check_sizes("latent_dims", latent_dims, "(50,)")
        if not np.iterable(hidden_dims) or not all(map(np.iterable, hidden_dims)):
            raise TypeError(
                "hidden_dims must hold a tuple for each stochastic layer, as in"
                f" ((200, 200),); got {hidden_dims!r}"
            )
        self.hidden_dims = tuple(
            check_sizes("hidden_dims", widths, "((200, 200),)")
            for widths in hidden_dims
        )
        if not self.latent_dims or len(self.latent_dims) != len(self.hidden_dims):
            raise ValueError(
                "latent_dims needs one size, and hidden_dims one tuple, for each"
                f" stochastic layer; got {self.latent_dims} and {self.hidden_dims}"
            )
        chain = [self.x_dim]
        for widths, L in zip(self.hidden_dims, self.latent_dims):
            chain += [*widths, L]
        least = 2 * sum(a * b for a, b in pairwise(chain))  # q's matrices and p's
        if least > MOST_PARAMETERS or len(chain) - 1 > MOST_LAYERS:
            raise ValueError(
                f"x_dim, hidden_dims and latent_dims make {least:,} parameters or more"
                f" in {len(chain) - 1:,} layers; at most {MOST_PARAMETERS:,} in"
                f" {MOST_LAYERS:,} are taken"
            )
        self.likelihood = choose("likelihood", likelihood, LIKELIHOODS)
        fixed = x_sigma is not None
        if fixed:
            x_sigma = check_real("x_sigma", x_sigma)
        if fixed and not (likelihood == "gaussian" and 0 < x_sigma < np.inf):
            raise ValueError(
                "x_sigma is a positive number, for likelihood 'gaussian' only;"
                f" got {x_sigma!r} and {likelihood!r}"
            )
        self.x_sigma = x_sigma
        self.dtype = np.dtype(choose("dtype", np.dtype(dtype).name, DTYPES))
        self.device = choose("device", device, DEVICES)
        if kernels is None:
            kernels = DEVICES[device][-1]
        choose(f"kernels on device {device!r}", kernels, DEVICES[device])
        self.ops = load_ops(kernels)
        if device == "cuda":
            require_device()

        arrays = initial_arrays(self, check_rng(rng), x_mean)
        params = Params.of(arrays, self.dtype)
        if device == "cuda":
            params = Params(params.shapes(), to_device(params.vector))
        self.params, self.origin = params, None

    def __setattr__(self, name, value):
        """To set ``params`` is to write the values into its arrays."""
        params = vars(self).get("params")
        if name != "params" or params is None:
            super().__setattr__(name, value)
        elif set(value) != set(params):
            raise ValueError(
                "params take the values of arrays of the same names and shapes; got"
                f" {len(value)} names for {len(params)}"
            )
        elif value is not params:  # which it is after model.params |= ...
            params.update(value)

    def __repr__(self):
        sizes = [str(self.x_dim)]  # as 784-200-200-(50)
        for widths, L in zip(self.hidden_dims, self.latent_dims):
            sizes += [*map(str, widths), f"({L})"]
        what = f"{self.likelihood}, {self.dtype}, on {self.device}"
        n = self.params.vector.size
        return f"VAE {'-'.join(sizes)}, {what}: {n:,} parameters"

    def to_device(self, array):
        """``array`` in the memory of the model's device."""
        return np.asarray(array, like=self.params.vector)

    def config(self) -> dict:
        """The arguments that build this model again, as JSON can hold them."""
        return {
            "x_dim": self.x_dim,
            "latent_dims": list(self.latent_dims),
            "hidden_dims": [list(widths) for widths in self.hidden_dims],
            "likelihood": self.likelihood,
            "x_sigma": self.x_sigma,
            "dtype": self.dtype.name,
            "device": self.device,
            "kernels": self.ops.name,
        }

    def draw_eps(
        self, batch: int, k: int, rng: np.random.Generator | int
    ) -> list[np.ndarray]:
        """Standard normal noise for ``k`` samples of each of ``batch`` images.

        Returns
        -------
        eps : list of ndarray
            One (batch, k, L) per stochastic layer.
        """
        batch, k = check_size("batch", batch), check_size("k", k)
        size = batch * k * sum(self.latent_dims) * self.dtype.itemsize
        check_memory(f"eps of {batch:,} images and k = {k:,}", size, "k or the batch")
        rng = check_rng(rng)
        shapes = [(batch, k, L) for L in self.latent_dims]
        return [rng.standard_normal(shape, self.dtype) for shape in shapes]

    def log_weights(self, x: ArrayLike, eps: list[np.ndarray]) -> np.ndarray:
        """log w_k = log p(x, z_k) - log q(z_k|x), with z drawn by ``eps`` (eq. 8.1).

        Parameters
        ----------
        x : ndarray of shape (B, D)
            Zeros and ones.
        eps : list of ndarray
            As from `draw_eps`.

        Returns
        -------
        log_w : ndarray of shape (B, K) float64
            In nats.

        Raises
        ------
        ValueError, TypeError
            For wrong shapes, for values that are not finite or not numbers, and for an
            x that is not binary.
        """
        x = check_x(self, x)
        eps = check_eps(eps, len(x), self.latent_dims, self.dtype)
        eps = [self.to_device(e) for e in eps]
        return to_host(log_weights_of(self, self.to_device(x), eps))

    def bound(
        self,
        x: ArrayLike,
        k: int = 50,
        bound: str = "iwae",
        *,
        rng: np.random.Generator | int = 0,
        **options,
    ) -> np.ndarray:
        """A bound on log p(x) of each image, without a gradient.

        Parameters
        ----------
        x : ndarray of shape (B, D)
            Zeros and ones.
        k : int
            Samples per image; so many at a time are in memory, and not all at once.
        bound : str
            A name in `minivae.BOUNDS`. "elbo_kl" is taken for "elbo", which has the
            same mean.
        rng : numpy.random.Generator or int
            Draws the samples; a whole number is a seed.
        **options
            Of the bound.

        Returns
        -------
        value : ndarray of shape (B,) float64
            In nats.

        Raises
        ------
        ValueError, TypeError
            As `log_weights`, and for an unknown bound or option.
        """
        x, k = self.to_device(check_x(self, x)), check_size("k", k)
        size = k * self.x_dim * self.dtype.itemsize  # an image's logits
        check_memory(f"a bound with k = {k:,}", size, "k")
        objective = resolve(self, k, bound, "reparam", options)
        if isinstance(rng, np.random.Generator):
            rng = int(rng.integers(2**63))
        seed = check_seed("rng", rng)

        return to_host(bound_of(self, objective, x, k, seed))

    @alone
    def encode(self, x: ArrayLike, layer: int = 1) -> list[np.ndarray]:
        """mu and log_sigma of q(z_l|z_{l-1}), each (B, L_l), for x (B, D).

        Above the first ``layer``, z_1 to z_{l-1} are the means of their own q.
        """
        x = check_array("x", x, (None, self.x_dim), self.dtype)
        if check_size("layer", layer) > len(self.latent_dims):
            raise ValueError(
                f"layer must be at most {len(self.latent_dims)}, which is how many the"
                f" model has; got {layer}"
            )
        heads, _ = encoder_forward(self, self.to_device(x))
        for l in range(2, layer + 1):
            heads, _ = gaussian_forward(self, f"q{l}", heads[0])
        return [to_host(head) for head in heads]

    def reconstruct(self, x: ArrayLike) -> np.ndarray:
        """The mean of p(x|z_1) at the mean of q(z_1|x), (B, D), for x (B, D)."""
        return self.decode(self.encode(x)[0])

    @alone
    def decode(self, z: ArrayLike) -> np.ndarray:
        """The mean of p(x|z_1): for a Bernoulli, each pixel's probability of a one.

        Parameters
        ----------
        z : ndarray of shape (R, L_1)

        Returns
        -------
        mean : ndarray of shape (R, D)
        """
        z = check_array("z", z, (None, self.latent_dims[0]), self.dtype)
        z = self.to_device(z)
        if self.likelihood == "gaussian":
            (mean, _), _ = gaussian_forward(self, "p1", z)
        else:
            mean = bernoulli_mean(self, "p1.logits", mlp_forward(self, "p1", z)[-1])
        return to_host(mean)

    @alone
    def sample(self, n: int, rng: np.random.Generator | int) -> np.ndarray:
        """The means of p(x|z_1) at ``n`` ancestral draws of z_1, (n, D)."""
        n, rng = check_size("n", n), check_rng(rng)
        check_memory(f"{n:,} images", n * row_bytes(self), "n")
        z = rng.standard_normal((n, self.latent_dims[-1]), self.dtype)
        for l in range(len(self.latent_dims), 1, -1):
            heads, _ = gaussian_forward(self, f"p{l}", self.to_device(z))
            eps = self.to_device(rng.standard_normal(heads[0].shape, self.dtype))
            z = as_rows(self.ops.reparameterize(*heads, as_draws(eps)))
        return self.decode(z)

    def save(self, path: str | os.PathLike, half: bool = False):
        """Write the model as one .npz, an array for each parameter.

        Parameters
        ----------
        path : path-like
        half : bool
            As float16, in half the space of float32: each parameter is rounded by up to
            0.05 %.

        Raises
        ------
        ValueError
            For a parameter that is not finite, or is none in float16.
        """
        save_model(path, self, half)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike | None = None,
        device: str = "cpu",
        kernels: str | None = None,
    ) -> VAE:
        """The model that `save` wrote, or another program by the same names.

        Parameters
        ----------
        path : path-like, optional
            Left out, it is that of the trained model that comes with minivae: an IWAE
            of MNIST, k = 5.
        device, kernels
            As for `VAE`.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or what is in it is no whole model.
        """
        path = TRAINED if path is None else path
        settings, arrays = read_model(path)
        rng = np.random.default_rng(0)  # what it draws is written over next
        try:
            model = cls(**settings, device=device, kernels=kernels, rng=rng)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error
        check_parameters(path, model.params, arrays)
        for name, array in arrays.items():
            model.params[name] = model.to_device(array)
        return model


def row_bytes(model):
    """What the activations of one sample of one image take, of all layers."""
    units = model.x_dim + sum(map(sum, model.hidden_dims)) + sum(model.latent_dims)
    return units * model.dtype.itemsize


def log_weights_of(model, x, eps):
    """`VAE.log_weights` without its checks, on the model's device."""

    def of_part(part):
        q1, _ = encoder_forward(model, x[part])
        return log_weights_forward(model, x[part], q1, [e[part] for e in eps])[0]

    batch, k, _ = eps[0].shape
    return map_images(of_part, model, batch, k)


def bound_of(model, objective, x, k, seed):
    """The bound of each image, (B,), on the model's device: each chunk of images draws
    its eps when it comes to it, the same ones for the same seed.
    """

    def of_part(part):
        q1, _ = encoder_forward(model, x[part])
        eps = noise.draw_eps(model, seed, epoch=0, step=0, images=part, k=k)
        log_w, _ = log_weights_forward(model, x[part], q1, eps)
        return objective.bound(log_w)[0]

    return map_images(of_part, model, len(x), k)
