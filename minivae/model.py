"""The variational autoencoder: parameters, and the log-weights forward and backward.

Stochastic layers are numbered from the data: z_1 is nearest x, and z_0 is x itself.

    network    computes               hidden layers        heads
    q1 q2 ...  q_l(z_l | z_{l-1})     hidden_dims[l - 1]   mu, log_sigma
    p1         p_1(x | z_1)           the same reversed    logits, or mu and log_sigma
    p2 ...     p_l(z_{l-1} | z_l)     the same reversed    mu, log_sigma

The rows of a chunk are alike, row r being sample r % K of image r // K. For q_1 a
Gaussian belongs to an image and has K draws, (B, K, L). For a deeper q_l it belongs to
a row and has one draw, (B * K, 1, L): the same functions serve both.
"""

from functools import reduce
from math import ceil

import numpy as np

from .bernoulli import (
    bernoulli_backward,
    bernoulli_cache_rows,
    bernoulli_forward,
    bernoulli_mean,
)
from .gaussian import (
    log_density,
    log_density_backward,
    log_density_of_draw,
    log_weight,
    reparameterize,
    reparameterize_backward,
)
from .inputs import (
    DTYPES,
    check_array,
    check_binary,
    check_eps,
    check_grey,
    check_range,
    check_size,
    choose,
)
from .kernels import DEVICES
from .kernels.device import require_device, to_device, to_host
from .layers import linear_backward, linear_backward_params, linear_forward
from .mlp import (
    linear_init,
    mlp_backward,
    mlp_cache_rows,
    mlp_forward,
    mlp_init,
)
from .params import Params
from .threads import each, even_slices, shares

# 512 rows of 784 float32 logits are 1.6 MB: still in the cache on the way back. With a
# thinned backward there is little to come back for, and fewer, larger products win. A
# GPU wants as much to do at once as there is memory for: 205 MB.
CHUNK_ROWS = {"all": 512, "single": 2560, "sparse": 2560, "cuda": 65_536}
LIKELIHOODS = ("bernoulli", "bernoulli-grey", "gaussian")


class VAE:
    """A variational autoencoder with any number of stochastic layers.

    Parameters
    ----------
    x_dim : int
        Visible units, D.
    latent_dims : tuple of int
        Latent units of z_1, z_2, ...
    hidden_dims : tuple of tuple of int
        Hidden units of q_1, q_2, ...; p mirrors them.
    likelihood : str
        "bernoulli": x holds zeros and ones. "bernoulli-grey": the same formula on grey
        values in [0, 1], which is no density of them; it has to be asked for by name.
        "gaussian": x is real, with a mean and a sigma from the decoder.
    x_sigma : float, optional
        A fixed sigma for a Gaussian likelihood.
    dtype : dtype
        float32, or float64 for gradient checks.
    rng : numpy.random.Generator
        Draws the Glorot-uniform weights. Biases start at zero.
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

    Raises
    ------
    ValueError, TypeError
        For sizes that do not fit together, and for unknown names.
    ModuleNotFoundError, OSError
        For device "cuda" where the packages, the driver or the GPU is missing.
    """

    def __init__(
        self,
        x_dim,
        latent_dims=(50,),
        hidden_dims=((200, 200),),
        likelihood="bernoulli",
        dtype=np.float32,
        *,
        rng,
        x_mean=None,
        x_sigma=None,
        device="cpu",
        kernels=None,
    ):
        self.x_dim = check_size("x_dim", x_dim)
        self.latent_dims = tuple(check_size("latent_dims", n) for n in latent_dims)
        self.hidden_dims = tuple(
            tuple(check_size("hidden_dims", n) for n in sizes) for sizes in hidden_dims
        )
        if not self.latent_dims or len(self.latent_dims) != len(self.hidden_dims):
            raise ValueError(
                "latent_dims needs one size, and hidden_dims one tuple, for each"
                f" stochastic layer; got {self.latent_dims} and {self.hidden_dims}"
            )
        self.likelihood = choose("likelihood", likelihood, LIKELIHOODS)
        fixed = x_sigma is not None
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
        what = f"kernels on device {device!r}"
        self.kernels = choose(what, kernels, DEVICES[device])
        if device == "cuda":
            require_device()

        arrays = {}
        units = (self.x_dim, *self.latent_dims)  # of z_0 = x, z_1, z_2, ...
        for l, hidden in enumerate(self.hidden_dims, start=1):
            q_heads, p_heads = ("mu", "log_sigma"), ("mu", "log_sigma")
            if l == 1 and likelihood != "gaussian":
                p_heads = ("logits",)
            elif l == 1 and x_sigma is not None:
                p_heads = ("mu",)
            below, above = units[l - 1], units[l]
            for name, *sizes, heads in (
                (f"q{l}", below, hidden, above, q_heads),
                (f"p{l}", above, hidden[::-1], below, p_heads),
            ):
                network_init(arrays, name, *sizes, heads, rng, self.dtype)
        self.params = Params.of(arrays, self.dtype)
        if x_mean is not None:
            x_mean = check_array("x_mean", x_mean, (self.x_dim,), np.float64)
            if likelihood == "gaussian":
                self.params["p1.mu.b"][...] = x_mean
            else:
                check_range("x_mean", x_mean)
                x_mean = np.clip(x_mean, 0.001, 0.999)
                self.params["p1.logits.b"][...] = np.log(x_mean / (1 - x_mean))
        if device == "cuda":
            vector = to_device(self.params.vector)
            self.params = Params(self.params.shapes(), vector)

    def put(self, array):
        """``array`` in the memory of the model's device."""
        return np.asarray(array, like=self.params.vector)

    def config(self):
        """The arguments that build this model again, as JSON can hold them."""
        return {
            "x_dim": self.x_dim,
            "latent_dims": list(self.latent_dims),
            "hidden_dims": [list(sizes) for sizes in self.hidden_dims],
            "likelihood": self.likelihood,
            "x_sigma": self.x_sigma,
            "dtype": self.dtype.name,
            "device": self.device,
            "kernels": self.kernels,
        }

    def draw_eps(self, batch, k, rng):
        """Standard normal noise for ``k`` samples of each of ``batch`` images.

        Returns
        -------
        eps : list of ndarray
            One (batch, k, L) per stochastic layer.
        """
        batch, k = check_size("batch", batch), check_size("k", k)
        shapes = [(batch, k, L) for L in self.latent_dims]
        return [rng.standard_normal(shape, self.dtype) for shape in shapes]

    def log_weights(self, x, eps):
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

        return to_host(weigh(self, self.put(x), [self.put(e) for e in eps]))

    def encode(self, x):
        """mu and log_sigma of q(z_1|x), each (B, L_1), for x (B, D)."""
        x = check_array("x", x, (None, self.x_dim), self.dtype)
        heads, _ = q1_forward(self, self.put(x))
        return [to_host(head) for head in heads]

    def decode(self, z):
        """The mean of p(x|z_1): for a Bernoulli, each pixel's probability of a one.

        Parameters
        ----------
        z : ndarray of shape (R, L_1)

        Returns
        -------
        mean : ndarray of shape (R, D)
        """
        z = self.put(check_array("z", z, (None, self.latent_dims[0]), self.dtype))
        if self.likelihood == "gaussian":
            (mean, _), _ = conditional_forward(self, "p1", z)
        else:
            n_hidden = len(self.hidden_dims[0])
            h, _ = mlp_forward(z, self.params, "p1", n_hidden, self.kernels)
            mean = bernoulli_mean(h, self.params, "p1.logits", self.kernels)
        return to_host(mean)

    def sample(self, n, rng):
        """The means of p(x|z_1) at ``n`` ancestral draws of z_1, (n, D)."""
        n = check_size("n", n)
        z = rng.standard_normal((n, self.latent_dims[-1]), self.dtype)
        for l in range(len(self.latent_dims), 1, -1):
            heads, _ = conditional_forward(self, f"p{l}", self.put(z))
            eps = self.put(rng.standard_normal(heads[0].shape, self.dtype))
            z = as_rows(reparameterize(*heads, as_draws(eps), self.kernels))
        return self.decode(z)


# One conditional Gaussian: an MLP and its two heads


def network_init(arrays, name, n_in, hidden, n_out, heads, rng, dtype):
    """Add the arrays of an MLP and its heads to ``arrays``."""
    mlp_init(arrays, name, n_in, hidden, rng, dtype)
    n_last = (n_in, *hidden)[-1]  # without hidden layers the heads read the input
    for head in heads:
        linear_init(arrays, f"{name}.{head}", n_last, n_out, rng, dtype)


def conditional_forward(model, name, x):
    """mu and log_sigma (R, L) of the network ``name``, from its input x (R, I).

    For q_1 this is the encoder (eq. 1.2).
    """
    l = int(name[1:])  # "q2" -> 2
    params, n_hidden = model.params, len(model.hidden_dims[l - 1])
    h, mlp_cache = mlp_forward(x, params, name, n_hidden, model.kernels)
    heads, caches = [], [mlp_cache]
    for head in (f"{name}.mu", f"{name}.log_sigma"):
        if f"{head}.W" not in params:  # the fixed sigma of a Gaussian likelihood
            heads.append(np.full_like(heads[0], np.log(model.x_sigma)))
            continue
        W, b = params[f"{head}.W"], params[f"{head}.b"]
        y, cache = linear_forward(h, W, b, model.kernels)
        heads.append(y)
        caches.append(cache)
    return heads, caches


def conditional_backward(model, name, dheads, caches, grads, coef=None, down_to_x=True):
    """dx (R, I), given dmu and dlog_sigma (R, L).

    Parameters
    ----------
    dheads : pair of ndarray of shape (R, L)
    grads : Params
        Added to in place, row r counted ``coef[r]`` times; None when only dx is wanted.
    coef, down_to_x
        As for `mlp_backward`.
    """
    kernels, (mlp_cache, *head_caches) = model.kernels, caches
    to_h = []
    # a fixed sigma has no cache, and its gradient ends here
    for head, dhead, cache in zip(("mu", "log_sigma"), dheads, head_caches):
        if grads is not None:
            layer = f"{name}.{head}", kernels
            linear_backward_params(dhead, cache, grads, *layer, coef)
        to_h.append(linear_backward(dhead, cache, kernels))
    dh = reduce(np.add, to_h)
    return mlp_backward(dh, mlp_cache, grads, name, kernels, coef, down_to_x)


def conditional_cache_rows(caches, rows):
    """The caches of some rows only."""
    mlp_cache, *head_caches = caches
    return [mlp_cache_rows(mlp_cache, rows), *((h[rows], W) for h, W in head_caches)]


def q1_forward(model, x):
    """mu and log_sigma of q(z_1|x), (B, L_1): once per image, however many samples."""
    return conditional_forward(model, "q1", x)


def q1_backward(model, dheads, caches, grads):
    """Add q_1's gradients to ``grads``, given dmu and dlog_sigma (B, L_1)."""
    conditional_backward(model, "q1", dheads, caches, grads, down_to_x=False)


# The decoder p(x|z_1)


def decoder_forward(model, z, x):
    """log p(x|z) (B, K) float64, in nats, of x (B, D) under z = z_1 (B, K, L)."""
    if model.likelihood == "gaussian":
        heads, caches = conditional_forward(model, "p1", as_rows(z))
        x = np.repeat(x, z.shape[1], axis=0)  # (B * K, D)
        return log_density(x, *heads).reshape(z.shape[:2]), (x, heads, caches)
    params, n_hidden = model.params, len(model.hidden_dims[0])
    h, mlp_cache = mlp_forward(as_rows(z), params, "p1", n_hidden, model.kernels)
    log_px, head_cache = bernoulli_forward(h, params, "p1.logits", x, model.kernels)
    return log_px, (mlp_cache, head_cache)


def decoder_backward(model, coef, cache, grads):
    """d log p(x|z) / dz with seed 1 per row, (B * K, L); adds p_1's gradients."""
    if model.likelihood == "gaussian":
        x, heads, caches = cache
        _, *dheads = log_density_backward(x, *heads)
        return conditional_backward(model, "p1", dheads, caches, grads, coef)
    mlp_cache, head_cache = cache
    dh = bernoulli_backward(head_cache, grads, "p1.logits", coef, model.kernels)
    return mlp_backward(dh, mlp_cache, grads, "p1", model.kernels, coef)


def decoder_cache_rows(model, cache, rows):
    """The cache of some rows only."""
    if model.likelihood == "gaussian":
        x, heads, caches = cache
        return x[rows], part(heads, rows), conditional_cache_rows(caches, rows)
    mlp_cache, head_cache = cache
    return mlp_cache_rows(mlp_cache, rows), bernoulli_cache_rows(head_cache, rows)


# The log-weights of a chunk


def log_weights_forward(model, x, q1, eps):
    """The log-weights of whole images (eq. 8.1; with several layers eq. 10.7).

    Parameters
    ----------
    x : ndarray of shape (B, D)
    q1 : pair of ndarray of shape (B, L_1)
        mu and log_sigma of q_1.
    eps : list of ndarray of shape (B, K, L)

    Returns
    -------
    log_w : ndarray of shape (B, K) float64
        In nats.
    cache : dict
        Entries are dictionaries over l = 1, 2, ..., but for log_px (B, K).
    """
    kernels, top, (B, K, _) = model.kernels, len(eps), eps[0].shape
    # deeper layers are (B * K, 1, L)
    eps = {l: e if l == 1 else as_draws(e) for l, e in enumerate(eps, start=1)}

    # through q, from x to the top: draw z_1, then each z_l from the one below
    q, z = {1: q1}, {1: reparameterize(*q1, eps[1], kernels)}
    q_cache, p, p_cache = {}, {}, {}
    for l in range(2, top + 1):
        q[l], q_cache[l] = conditional_forward(model, f"q{l}", as_rows(z[l - 1]))
        z[l] = reparameterize(*q[l], eps[l], kernels)

    # through p, from x to the top: log p(x|z_1), then of each layer
    # log p(z_l|z_{l+1}) - log q(z_l|z_{l-1})
    log_px, p_cache[1] = decoder_forward(model, z[1], x)
    log_w = log_px
    for l in range(1, top):
        p[l + 1], p_cache[l + 1] = conditional_forward(
            model, f"p{l + 1}", as_rows(z[l + 1])
        )
        log_p = log_density(as_rows(z[l]), *p[l + 1])
        log_q = log_density_of_draw(eps[l], q[l][1])
        log_w = log_w + log_p.reshape(B, K) - log_q.reshape(B, K)
    # at the top p is N(0, I)
    log_w = log_w.reshape(z[top].shape[:2])
    log_w = log_weight(log_w, z[top], eps[top], q[top][1], kernels).reshape(B, K)

    return log_w, {
        "log_px": log_px, "eps": eps, "z": z,
        "q": q, "q_cache": q_cache, "p": p, "p_cache": p_cache,
    }  # fmt: skip


def weigh(model, x, eps):
    """`VAE.log_weights` without its checks, on the model's device."""

    def weigh_share(images):
        here, eps_here = x[images], part(eps, images)
        q1, _ = q1_forward(model, here)
        B, K, _ = eps_here[0].shape
        log_w = []
        for rows in chunks(model, B, K):
            args = here[rows], part(q1, rows), part(eps_here, rows)
            log_w.append(log_weights_forward(model, *args)[0])
        return np.concatenate(log_w)

    B, K, _ = eps[0].shape
    return np.concatenate(each(weigh_share, shares_of(model, 0, B, K)))


def log_weights_backward(model, theta, path, score, cache, grads, most=None):
    """The way back of `log_weights_forward`, for an estimator's rows.

    The sums of eq. 10.5; with several layers by eq. 20.4.

    Parameters
    ----------
    theta, path, score : ndarray of shape (B, K)
    cache : dict
    grads : Params
        Every gradient but q_1's is added to it, in place.
    most : int, optional
        As for `rows_that_count`.

    Returns
    -------
    dmu, dlog_sigma : ndarray of shape (B, L_1)
        What reaches q_1's heads.
    """
    kernels, dtype = model.kernels, model.dtype
    eps, z, q, p = cache["eps"], cache["z"], cache["q"], cache["p"]
    q_cache, p_cache, top = cache["q_cache"], cache["p_cache"], len(z)
    # rows that count for nothing are left out: with a thinned backward, most of them.
    # Before the cast: rows that only float32 rounds to zero are too few to be worth a
    # copy of the rest
    rows, theta = rows_that_count(theta, path, most)
    # with the plain gradient, the second pass below has nothing to add; to know that, a
    # GPU's host would have to wait, and so it always asks for the pass
    plain = model.device == "cpu" and np.array_equal(score, -path)
    theta, path, score = theta.astype(dtype), path.astype(dtype), score.astype(dtype)
    theta_r, path_r, score_r = theta.ravel(), path.reshape(-1, 1), score.reshape(-1, 1)
    if not isinstance(rows, slice):
        p = {l: part(p[l], rows) for l in p}
        p_cache = {l: conditional_cache_rows(p_cache[l], rows) for l in p} | {
            1: decoder_cache_rows(model, p_cache[1], rows)
        }
    z_rows, theta_r = {l: as_rows(z[l])[rows] for l in z}, theta_r[rows]

    # backward through p, from x to the top: dlog_p[l] is d log p(x, z) / d z_l with
    # seed 1 per row, while the parameters count row r theta[r] times
    dlog_p = {1: decoder_backward(model, theta_r, p_cache[1], grads)}
    for l in range(1, top):
        dlog_p_l, *dheads = log_density_backward(z_rows[l], *p[l + 1])
        dlog_p[l] += dlog_p_l
        dlog_p[l + 1] = conditional_backward(
            model, f"p{l + 1}", dheads, p_cache[l + 1], grads, theta_r
        )
    dlog_p[top] -= z_rows[top]  # the prior's part

    # backward through q, from the top to x: dz[l] goes to the heads that drew z_l, and
    # through them on to z_{l-1}
    dz = {l: np.zeros_like(as_rows(z[l])) for l in z}
    for l in dz:
        dz[l][rows] = path_r[rows] * dlog_p[l]
    for l in range(top, 1, -1):
        draw = as_draws(dz[l]), eps[l], q[l][1]
        dheads = reparameterize_backward(*draw, path_r, score_r, kernels)
        dz_below = conditional_backward(model, f"q{l}", dheads, q_cache[l], grads)
        if not plain:
            # z_{l-1} is part of the path: through log q_l it gets -path, not score
            dheads = reparameterize_backward(*draw, path_r, -path_r, kernels)
            dz_below = conditional_backward(model, f"q{l}", dheads, q_cache[l], None)
        dz[l - 1] += dz_below
    dz_1 = dz[1].reshape(z[1].shape)
    return reparameterize_backward(dz_1, eps[1], q[1][1], path, score, kernels)


def rows_that_count(theta, path, most=None):
    """The rows whose theta or path is not zero, of (B, K) each.

    How many they are is known on a GPU only after waiting for it. With ``most``, nobody
    waits: the rows that count come first, filled up to so many with others, whose zeros
    do no harm. Should there be more of them than that, theta becomes NaN.

    Returns
    -------
    rows : ndarray of int, or slice(None) for all
    theta : ndarray of shape (B, K)
    """
    if most == theta.size:
        return slice(None), theta
    counts = ((theta != 0) | (path != 0)).ravel()
    if most is None:
        (rows,) = counts.nonzero()
        return (slice(None) if len(rows) == theta.size else rows), theta
    before = counts.cumsum()  # of the rows that count, each with itself
    total, numbers = before[-1:], np.arange(theta.size, like=before)
    rows = np.empty_like(before)
    place = np.where(counts, before - 1, total + numbers - before)  # eq. 25.1
    rows[place] = numbers
    return rows[:most], np.where(total > most, np.nan, theta)


def check_x(model, x):
    """``x`` as the model's likelihood wants it."""
    if model.likelihood == "bernoulli":
        return check_binary("x", x, model.x_dim, model.dtype)
    if model.likelihood == "bernoulli-grey":
        return check_grey("x", x, model.x_dim, model.dtype)
    return check_array("x", x, (None, model.x_dim), model.dtype)


def as_rows(z):
    """(B, K, L) -> (B * K, L), without a copy."""
    return z.reshape(-1, z.shape[-1])


def as_draws(z):
    """(..., L) -> (B * K, 1, L), without a copy: each row one draw of its Gaussian."""
    return z.reshape(-1, 1, z.shape[-1])


def shares_of(model, start, stop, K):
    """Images ``start`` to ``stop`` in slices, one for each thread; on a GPU there is
    one.
    """
    on_gpu = model.device == "cuda"
    return [slice(start, stop)] if on_gpu else shares(start, stop, K)


def chunks(model, B, K, backward="all"):
    """Slices of whole images, about `CHUNK_ROWS` rows each, nearly equal in size."""
    rows = CHUNK_ROWS["cuda" if model.device == "cuda" else backward]
    return even_slices(0, B, min(B, ceil(B * K / rows)))


def part(arrays, images):
    """The same images of each array."""
    return [array[images] for array in arrays]
