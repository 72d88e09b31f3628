"""Forwards against oracles that share no code with them: SciPy, sample moments, an
exactly solvable model.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

import minivae as mv
from minivae import bernoulli, gaussian, layers
from minivae.kernels import load_ops

OPS = [pytest.param(load_ops(name), id=name) for name in ("numpy", "numba")]
reals = st.floats(-1e3, 1e3)
log_sigmas = st.floats(np.log(1e-8), np.log(1e8))


@given(reals, reals, log_sigmas)
def test_log_density(z, mu, log_sigma):
    got = gaussian.log_density(*(np.array([[value]]) for value in (z, mu, log_sigma)))
    expected = stats.norm.logpdf(z, mu, np.exp(log_sigma))
    np.testing.assert_allclose(got, expected, rtol=1e-11)


@given(st.floats(-6, 6), log_sigmas)
def test_log_density_of_draw(eps, log_sigma):
    got = gaussian.log_density_of_draw(np.array([[[eps]]]), np.array([[log_sigma]]))
    expected = stats.norm.logpdf(eps) - log_sigma
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("ops", OPS)
def test_draws_have_the_moments_of_the_gaussian(ops):
    """A sigma used as a variance, or a variance as a sigma, is ten standard errors away
    at once.
    """
    rng = np.random.default_rng(0)
    mu, log_sigma, n = np.array([[-3.0, 0.5]]), np.log([[0.2, 4.0]]), 400_000
    (z,) = ops.reparameterize(mu, log_sigma, rng.standard_normal((1, n, 2)))
    sigma = np.array([0.2, 4.0])
    assert (np.abs(z.mean(axis=0) - mu[0]) < 4.5 * sigma / np.sqrt(n)).all()
    assert (np.abs(z.var(axis=0) / sigma**2 - 1) < 4.5 * np.sqrt(2 / n)).all()


@pytest.mark.parametrize(
    "mu, sigma", [(0, 1), (2, 0.3), (-5, 1e-8), (0.1, 1e4), (1e3, 1)]
)
def test_kl_against_quadrature(mu, sigma):
    def integrand(u):  # z = mu + sigma * u, u standard normal
        return stats.norm.pdf(u) * (
            stats.norm.logpdf(u) - np.log(sigma) - stats.norm.logpdf(mu + sigma * u)
        )

    expected, _ = integrate.quad(integrand, -12, 12, epsabs=0, epsrel=1e-12)
    got = gaussian.kl_to_standard_normal(np.array([[mu]]), np.log([[sigma]]))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_kl_of_the_prior_is_zero_and_no_kl_is_negative():
    rng = np.random.default_rng(0)
    assert gaussian.kl_to_standard_normal(np.zeros((1, 3)), np.zeros((1, 3))) == 0
    tiny = 1e-9 * rng.standard_normal((2, 1000, 1))
    assert (gaussian.kl_to_standard_normal(*tiny) >= 0).all()


@pytest.mark.parametrize("ops", OPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bernoulli_against_scipy(ops, dtype):
    """Logits of +-100 and 0 among ordinary ones; the head holds the linear layer."""
    rng = np.random.default_rng(0)
    h, W = rng.standard_normal((12, 6)), 20 * rng.standard_normal((6, 9))
    b = np.array([-100, 100, 0, *range(6)])
    h, W, b = (array.astype(dtype) for array in (h, W, b))
    model = SimpleNamespace(params={"head.W": W, "head.b": b}, ops=ops)
    x = (rng.random((3, 9)) < 0.5).astype(dtype)
    logits = (h.astype(float) @ W + b).reshape(3, 4, 9)
    p = special.expit(np.where(x[:, None, :] == 1, logits, -logits))
    expected = stats.bernoulli.logpmf(1, p).sum(axis=2)
    log_px, _ = bernoulli.bernoulli_forward(model, "head", h, x)
    rtol = 1e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(log_px, expected, rtol=rtol)
    means, expected = bernoulli.bernoulli_mean(model, "head", h), special.expit(logits)
    np.testing.assert_allclose(means, expected.reshape(12, 9), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ops", OPS)
@given(row=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=30))
def test_bounds_against_scipy(ops, row):
    log_w = np.array([row])
    value, c, _ = mv.BOUNDS["iwae"](log_w, ops=ops)
    expected = special.logsumexp(row) - np.log(len(row))
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-11)
    expected = special.softmax(log_w, axis=1)
    np.testing.assert_allclose(c, expected, rtol=1e-9, atol=1e-300)
    value, c, dc = mv.BOUNDS["elbo"](log_w, ops=ops)
    np.testing.assert_allclose(value, np.mean(row), atol=1e-9)
    assert (c == 1 / len(row)).all() and (dc == 0).all()


@pytest.mark.parametrize("bound", mv.BOUNDS.values(), ids=mv.BOUNDS)
@pytest.mark.parametrize("ops", OPS)
def test_every_bound(bound, ops):
    """Rows of c sum to 1; adding a to every log-weight adds a; an all -inf row is -inf
    with no gradient.
    """
    rng = np.random.default_rng(0)
    log_w = 1e4 * rng.standard_normal((6, 4))
    log_w[2] = -np.inf
    bound_of = partial(bound, ops=ops, **bound.examples())
    value, c, dc = bound_of(log_w)
    assert value.dtype == c.dtype == dc.dtype == np.float64
    assert value[2] == -np.inf and not c[2].any() and not dc[2].any()
    np.testing.assert_allclose(np.delete(c, 2, axis=0).sum(axis=1), 1, rtol=1e-11)
    np.testing.assert_allclose(bound_of(log_w + 7)[0], value + 7, rtol=1e-12)


def test_glorot_uniform_fills_its_interval():
    W = layers.glorot_uniform(300, 100, np.random.default_rng(0), np.float64)
    limit = np.sqrt(6 / 400)
    assert np.abs(W).max() <= limit
    assert stats.kstest(W.ravel(), stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3


# An exactly solvable model: z ~ N(0, 1), x|z ~ N(a z, s^2), so p(x) = N(0, a^2 + s^2)
# and the posterior is a Gaussian.

A, S, X = 1.3, 0.6, 0.9
POSTERIOR_SIGMA = 1 / np.sqrt(1 + A**2 / S**2)
POSTERIOR_MU = POSTERIOR_SIGMA**2 * A * X / S**2
LOG_PX = stats.norm.logpdf(X, 0, np.sqrt(A**2 + S**2))


def linear_gaussian_log_weights(eps, mu, sigma, ops):
    """log w of the model above under q = N(mu, sigma^2), by minivae's functions; eps
    (B, K).
    """
    B, K = eps.shape
    mu, log_sigma = np.full((B, 1), mu), np.full((B, 1), np.log(sigma))
    z = ops.reparameterize(mu, log_sigma, eps[:, :, None])
    rows = z.reshape(-1, 1)
    x, log_s = np.full_like(rows, X), np.full_like(rows, np.log(S))
    log_px = gaussian.log_density(x, A * rows, log_s).reshape(B, K)
    return ops.log_weight(log_px, z, eps[:, :, None], log_sigma)


def exact_bound(mu, sigma, K):
    """L_K = E log(mean of K weights), as the integral over t of
    (exp(-t) - phi(t/K)^K)/t, where phi(s) = E exp(-s w).
    """
    u, weight = special.roots_hermitenorm(180)
    weight = weight / weight.sum()
    z = mu + sigma * u
    log_p = stats.norm.logpdf(z) + stats.norm.logpdf(X, A * z, S)
    w = np.exp(log_p - stats.norm.logpdf(z, mu, sigma))

    def integrand(log_t):  # t = exp(log_t), and dt / t = d log_t
        t = np.exp(log_t)
        return np.exp(-t) - (weight @ np.exp(-t / K * w)) ** K

    return integrate.quad(integrand, -60, 30, limit=2000, epsabs=1e-11)[0]


@pytest.mark.parametrize("ops", OPS)
def test_bounds_are_exact_at_the_posterior(ops):
    eps = np.random.default_rng(0).standard_normal((50, 6))
    log_w = linear_gaussian_log_weights(eps, POSTERIOR_MU, POSTERIOR_SIGMA, ops)
    np.testing.assert_allclose(log_w, LOG_PX, rtol=1e-12)
    for bound in mv.BOUNDS.values():
        value, _, _ = bound(log_w, ops=ops, **bound.examples())
        np.testing.assert_allclose(value, LOG_PX, rtol=1e-12)


@pytest.mark.parametrize("ops", OPS)
def test_bounds_of_the_linear_gaussian_model(ops):
    """L_1 <= L_5 <= L_50 <= log p(x), each equal to its quadrature (eq. 9.5) within 4.5
    standard errors.
    """
    mu, sigma, n = POSTERIOR_MU - 0.3, 1.4 * POSTERIOR_SIGMA, 600_000
    exact = {K: exact_bound(mu, sigma, K) for K in (1, 5, 50)}
    kl = (
        np.log(POSTERIOR_SIGMA / sigma)
        + (sigma**2 + (mu - POSTERIOR_MU) ** 2) / (2 * POSTERIOR_SIGMA**2)
        - 0.5
    )
    # the quadrature itself, where L_1 is known
    assert exact[1] == pytest.approx(LOG_PX - kl, abs=1e-8)
    assert exact[1] < exact[5] < exact[50] < LOG_PX
    rng = np.random.default_rng(1)
    for K, expected in exact.items():
        eps = rng.standard_normal((n // K, K))
        log_w = linear_gaussian_log_weights(eps, mu, sigma, ops)
        value = mv.BOUNDS["iwae"](log_w, ops=ops)[0]
        mean, error = value.mean(), value.std(ddof=1) / np.sqrt(len(value))
        assert abs(mean - expected) < 4.5 * error, (K, mean, expected, error)
        assert error < 0.01
