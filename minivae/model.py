"""The variational autoencoder: parameters, and the log-weights forward and backward.

Stochastic layers are numbered from the data: z_1 is nearest x, and z_0 is x itself.

    q_l(z_l | z_{l-1})    network "q1", "q2", ...    hidden_dims[l - 1], then heads for mu and log_sigma
    p_l(z_{l-1} | z_l)    network "p1", "p2", ...    the same widths in reverse; p1 ends in Bernoulli logits

The walk below treats the rows of a chunk alike, row r being sample r % K of image r // K. For q_1 a Gaussian belongs to
an image and has K samples, (B, K, L). For a deeper q_l it belongs to a row and has one, (R, 1, L) with R = B * K: the
same functions serve both.
"""

import numpy as np

from .bernoulli import bernoulli_backward, bernoulli_forward, bernoulli_mean
from .gaussian import (
    log_density,
    log_density_backward,
    log_density_of_draw,
    log_weight,
    reparameterize,
    reparameterize_backward,
)
from .kernels import check_name
from .layers import linear_backward, linear_forward
from .mlp import add_linear_grads, linear_init, mlp_backward, mlp_forward, mlp_init

CHUNK_ROWS = 256  # 256 rows of 784 float32 logits are 0.8 MB: they are still in the cache on the way back up


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
        "bernoulli": x holds zeros and ones.
    dtype : dtype
        float32, or float64 for gradient checks.
    rng : numpy.random.Generator
        Draws the Glorot-uniform weights.
    x_mean : ndarray of shape (D,), optional
        Mean training image. The output bias starts at its logit, clipped to [0.001, 0.999]; without it, at 0.
    device : str
        "cpu".
    kernels : str
        "numba", or "numpy" for the reference.

    Attributes
    ----------
    params : dict
        Name -> array, such as ``q1.hidden1.W`` of shape (in, out). Updated in place.

    Raises
    ------
    ValueError
        For sizes that do not fit together and for unknown names.
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
        device="cpu",
        kernels="numba",
    ):
        self.x_dim = check_size("x_dim", x_dim)
        self.latent_dims = tuple(check_size("latent_dims", n) for n in latent_dims)
        self.hidden_dims = tuple(tuple(check_size("hidden_dims", n) for n in widths) for widths in hidden_dims)
        if not self.latent_dims or len(self.latent_dims) != len(self.hidden_dims):
            raise ValueError(
                "latent_dims needs one size, and hidden_dims one tuple, for each stochastic layer;"
                f" got {self.latent_dims} and {self.hidden_dims}"
            )
        if likelihood != "bernoulli":
            raise ValueError(f"likelihood must be 'bernoulli'; got {likelihood!r}")
        if device != "cpu":
            raise ValueError(f"device must be 'cpu'; got {device!r}")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64; got {self.dtype}")
        self.likelihood, self.device, self.kernels = likelihood, device, check_name(kernels)

        self.params = {}
        below = (self.x_dim, *self.latent_dims)  # units of z_0 = x, z_1, z_2, ...
        for l, hidden in enumerate(self.hidden_dims, start=1):
            for name, n_in, widths, n_out, heads in (
                (f"q{l}", below[l - 1], hidden, below[l], ("mu", "log_sigma")),
                (f"p{l}", below[l], hidden[::-1], below[l - 1], ("mu", "log_sigma") if l > 1 else ("logits",)),
            ):
                mlp_init(self.params, name, n_in, widths, rng, self.dtype)
                for head in heads:
                    linear_init(self.params, f"{name}.{head}", (n_in, *widths)[-1], n_out, rng, self.dtype)
        if x_mean is not None:
            mean = np.clip(check_rows("x_mean", np.atleast_2d(x_mean), self.x_dim, np.float64)[0], 0.001, 0.999)
            self.params["p1.logits.b"][...] = np.log(mean / (1 - mean))

    def config(self):
        """What `VAE` needs to build this model again, but for the parameters; a dict that JSON can hold."""
        return {
            "x_dim": self.x_dim,
            "latent_dims": list(self.latent_dims),
            "hidden_dims": [list(widths) for widths in self.hidden_dims],
            "likelihood": self.likelihood,
            "dtype": self.dtype.name,
            "device": self.device,
            "kernels": self.kernels,
        }

    def draw_eps(self, batch, k, rng):
        """Standard normal noise for ``k`` samples of each of ``batch`` images.

        Returns
        -------
        eps : list of ndarray
            One (batch, k, L) a stochastic layer.
        """
        batch, k = check_size("batch", batch), check_size("k", k)
        return [rng.standard_normal((batch, k, n), self.dtype) for n in self.latent_dims]

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
        ValueError
            For wrong shapes, for values that are not finite, and for an x that is not binary.
        """
        x, eps = check_inputs(self, x, eps)
        q1, _ = q1_forward(self, x)
        log_w = np.empty(eps[0].shape[:2])
        for images in chunks(*log_w.shape):
            log_w[images], _ = log_weights_forward(self, x[images], part(q1, images), part(eps, images))
        return log_w

    def encode(self, x):
        """mu and log_sigma of q(z_1|x), each (B, L_1), for x (B, D)."""
        return q1_forward(self, check_rows("x", x, self.x_dim, self.dtype))[0]

    def decode(self, z):
        """The mean of p(x|z_1), (R, D), for z_1 (R, L_1): each pixel's probability of a one."""
        z = check_rows("z", z, self.latent_dims[0], self.dtype)
        h, _ = mlp_forward(z, self.params, "p1", len(self.hidden_dims[0]), self.kernels)
        return bernoulli_mean(h, self.params, "p1.logits")

    def sample(self, n, rng):
        """``n`` draws from the model, ancestral down to z_1: the means of p(x|z_1), (n, D)."""
        n = check_size("n", n)
        z = rng.standard_normal((n, self.latent_dims[-1]), self.dtype)
        for l in range(len(self.latent_dims), 1, -1):
            (mu, log_sigma), _ = conditional_forward(self, f"p{l}", z)
            eps = rng.standard_normal((n, 1, mu.shape[1]), self.dtype)
            z = reparameterize(mu, log_sigma, eps, self.kernels)[:, 0]
        return self.decode(z)


# A conditional Gaussian: an MLP and its two heads


def conditional_forward(model, name, x):
    """mu and log_sigma of the network ``name``, each (R, L), from its input x (R, I)."""
    n_hidden = len(model.hidden_dims[int(name[1:]) - 1])
    h, mlp_cache = mlp_forward(x, model.params, name, n_hidden, model.kernels)
    mu, mu_cache = linear_forward(h, model.params[f"{name}.mu.W"], model.params[f"{name}.mu.b"])
    log_sigma, log_sigma_cache = linear_forward(
        h, model.params[f"{name}.log_sigma.W"], model.params[f"{name}.log_sigma.b"]
    )
    return (mu, log_sigma), (mlp_cache, mu_cache, log_sigma_cache)


def conditional_backward(model, name, dmu, dlog_sigma, cache, grads, coef=None, down_to_x=True):
    """Add the network's gradients to ``grads`` (unless None), row r counted ``coef[r]`` times; return dx (R, I)."""
    mlp_cache, mu_cache, log_sigma_cache = cache
    if grads is not None:
        add_linear_grads(grads, f"{name}.log_sigma", dlog_sigma, log_sigma_cache, coef)
        add_linear_grads(grads, f"{name}.mu", dmu, mu_cache, coef)
    dh = linear_backward(dlog_sigma, log_sigma_cache) + linear_backward(dmu, mu_cache)
    return mlp_backward(dh, mlp_cache, grads, name, model.kernels, coef, down_to_x)


def q1_forward(model, x):
    """mu and log_sigma of q(z_1|x), each (B, L_1): once an image, however many samples it has."""
    return conditional_forward(model, "q1", x)


def q1_backward(model, dq1, cache, grads):
    """Add q_1's gradients to ``grads``, given ``dq1 = (dmu, dlog_sigma)``."""
    conditional_backward(model, "q1", *dq1, cache, grads, down_to_x=False)


# p(x|z_1), the decoder


def decoder_forward(model, z, x):
    """log p(x|z) (B, K) float64, in nats, of x (B, D) under z = z_1 (B, K, L)."""
    n_hidden = len(model.hidden_dims[0])
    h, mlp_cache = mlp_forward(as_rows(z), model.params, "p1", n_hidden, model.kernels)
    log_px, head_cache = bernoulli_forward(h, model.params, "p1.logits", x, model.kernels)
    return log_px, (mlp_cache, head_cache)


def decoder_backward(model, coef, cache, grads):
    """Add p_1's gradients to ``grads``, row r counted ``coef[r]`` times; return d log p(x|z) / dz, (B * K, L)."""
    mlp_cache, head_cache = cache
    dh = bernoulli_backward(head_cache, grads, "p1.logits", coef, model.kernels)
    return mlp_backward(dh, mlp_cache, grads, "p1", model.kernels, coef)


# The log-weights of a chunk


def log_weights_forward(model, x, q1, eps):
    """Up through q, down through p: the log-weights of a chunk of whole images (eqs. 8.1 to 8.3).

    Parameters
    ----------
    x : ndarray of shape (B, D)
    q1 : tuple of ndarray of shape (B, L_1)
        mu and log_sigma of q_1.
    eps : list of ndarray of shape (B, K, L)

    Returns
    -------
    log_w : ndarray of shape (B, K) float64
        In nats.
    cache : dict
    """
    top, (B, K, _) = len(eps), eps[0].shape
    eps = dict(enumerate(eps, start=1))  # from here on, l counts as in the derivations
    q, q_cache, p, p_cache, z = {1: q1}, {}, {}, {}, {1: reparameterize(*q1, eps[1], model.kernels)}
    for l in range(2, top + 1):
        q[l], q_cache[l] = conditional_forward(model, f"q{l}", as_rows(z[l - 1]))
        z[l] = reparameterize(*q[l], as_draws(eps[l]), model.kernels)

    log_px, p_cache[1] = decoder_forward(model, z[1], x)
    log_w = log_px
    for l in range(2, top + 1):  # + log p(z_{l-1} | z_l) - log q(z_{l-1} | z_{l-2})
        p[l], p_cache[l] = conditional_forward(model, f"p{l}", as_rows(z[l]))
        log_p = log_density(as_rows(z[l - 1]), *p[l]).reshape(B, K)
        log_q = log_density_of_draw(eps[l - 1].reshape(z[l - 1].shape), q[l - 1][1]).reshape(B, K)
        log_w = log_w + log_p - log_q
    shape = z[top].shape  # and at the top, where p is N(0, I), log p - log q at once
    log_w = log_weight(log_w.reshape(shape[:2]), z[top], eps[top].reshape(shape), q[top][1], model.kernels)
    cache = {"log_px": log_px, "eps": eps, "z": z, "q": q, "p": p, "q_cache": q_cache, "p_cache": p_cache}
    return log_w.reshape(B, K), cache


def log_weights_backward(model, theta, path, score, cache, grads):
    """The way back of `log_weights_forward`, for an estimator's rows (eq. 10.5).

    Parameters
    ----------
    theta, path, score : ndarray of shape (B, K)
    cache : dict
    grads : dict
        Every gradient but q_1's is added to it, in place.

    Returns
    -------
    dmu, dlog_sigma : ndarray of shape (B, L_1)
        What reaches q_1's heads.
    """
    eps, z, q, p, q_cache, p_cache = (cache[key] for key in ("eps", "z", "q", "p", "q_cache", "p_cache"))
    theta, path, score = (rows.astype(model.dtype) for rows in (theta, path, score))
    theta_rows, path_rows, score_rows = theta.ravel(), path.reshape(-1, 1), score.reshape(-1, 1)
    top = len(z)

    # down p, with seed 1 a row: dz[l] is d log p(x, z) / d z_l; parameters count row r theta[r] times
    dz = {1: decoder_backward(model, theta_rows, p_cache[1], grads)}
    for l in range(2, top + 1):
        dz_below, dmu, dlog_sigma = log_density_backward(as_rows(z[l - 1]), *p[l])
        dz[l - 1] += dz_below
        dz[l] = conditional_backward(model, f"p{l}", dmu, dlog_sigma, p_cache[l], grads, theta_rows)
    dz[top] -= as_rows(z[top])  # the prior's part

    # down q: path[r] times that goes on to the heads that drew z_l, and through them to z_{l-1}
    g = {l: path_rows * dz[l] for l in dz}
    for l in range(top, 1, -1):
        draw = as_draws(g[l]), as_draws(eps[l]), q[l][1]
        dheads = reparameterize_backward(*draw, path_rows, score_rows, model.kernels)
        dz_below = conditional_backward(model, f"q{l}", *dheads, q_cache[l], grads)
        if not np.array_equal(score, -path):  # z_{l-1} is owed -path[r] * d log q_l, whatever the parameters get
            dheads = reparameterize_backward(*draw, path_rows, -path_rows, model.kernels)
            dz_below = conditional_backward(model, f"q{l}", *dheads, q_cache[l], None)
        g[l - 1] += dz_below
    return reparameterize_backward(g[1].reshape(z[1].shape), eps[1], q[1][1], path, score, model.kernels)


def as_rows(z):
    """(B, K, L) -> (B * K, L), without a copy."""
    return z.reshape(-1, z.shape[-1])


def as_draws(z):
    """(B, K, L) or (B * K, L) -> (B * K, 1, L), without a copy: each row is the one draw of its own Gaussian."""
    return z.reshape(-1, 1, z.shape[-1])


def chunks(B, K):
    """Slices of whole images, of about `CHUNK_ROWS` rows each and of nearly equal size."""
    n = -(-B * K // CHUNK_ROWS)
    edges = np.linspace(0, B, min(n, B) + 1).astype(int)
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:])]


def part(arrays, images):
    """The same images of each array."""
    return [array[images] for array in arrays]


# Bad input is met here


def check_size(name, value):
    """``value`` as an int of at least 1, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}")
    return int(value)


def check_real(name, array, shape, dtype):
    """``array`` as finite numbers of ``dtype``, or an error that gives both shapes; None in ``shape`` is any size >= 1."""
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}")
    if array.ndim != len(shape) or any(n == 0 or want not in (n, None) for n, want in zip(array.shape, shape)):
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must be of shape ({wanted}) with n >= 1; got {array.shape}")
    array = np.ascontiguousarray(array, dtype)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array


def check_rows(name, array, width, dtype):
    """``array`` as (n, width) finite numbers of ``dtype``."""
    return check_real(name, array, (None, width), dtype)


def check_inputs(model, x, eps):
    """x and eps as the model wants them, or an error that says what was wrong."""
    x = check_rows("x", x, model.x_dim, model.dtype)
    if not ((x == 0) | (x == 1)).all():
        raise ValueError("x must hold only 0 and 1 for a Bernoulli likelihood: binarize grey pixels first")
    if isinstance(eps, np.ndarray) or len(eps) != len(model.latent_dims):
        raise ValueError(f"eps must be a list of {len(model.latent_dims)} arrays, one a stochastic layer")
    shapes = [np.shape(e) for e in eps]
    K = shapes[0][1] if len(shapes[0]) == 3 and shapes[0][1] > 0 else None
    eps = [check_real(f"eps[{l}]", e, (len(x), K, n), model.dtype) for l, (e, n) in enumerate(zip(eps, model.latent_dims))]
    return x, eps
