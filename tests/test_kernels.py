"""Every version of every kernel against the reference in float64, on inputs made hard
on purpose.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from minivae.kernels import (
    NAMES,
    adam,
    bernoulli,
    log_weight,
    reparameterize,
    softmax,
    tanh,
)

CASES = [(name, dtype) for name in NAMES for dtype in (np.float32, np.float64)]
SHAPES = [
    (1, 1, 1),
    (3, 1, 5),
    (2, 7, 113),
    (5, 50, 4),
]  # K = 1, and sizes that are no multiple of a block


def tolerance(dtype):
    return (
        {"rtol": 1e-11, "atol": 1e-12}
        if dtype == np.float64
        else {"rtol": 2e-5, "atol": 2e-5}
    )


def both(dtype, *arrays):
    """The arrays in ``dtype``, and those same values in float64 for the reference."""
    arrays = [np.asarray(a, dtype) for a in arrays]
    return arrays, [a.astype(np.float64) for a in arrays]


def compare(results, expected, dtype):
    results = results if isinstance(results, tuple) else (results,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(got, want, **tolerance(dtype))


def test_every_file_has_every_version():
    for kernel in (adam, bernoulli, log_weight, reparameterize, softmax, tanh):
        assert tuple(kernel.VERSIONS) == NAMES
        functions = {tuple(vars(version)) for version in kernel.VERSIONS.values()}
        assert len(functions) == 1


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("size", [1, 4095, 4097, 9000])
def test_tanh(name, dtype, size):
    rng = np.random.default_rng(size)
    a = rng.standard_normal(size) * 10.0 ** rng.integers(-8, 3, size)
    a[:: max(1, size // 7)] = 100
    a[-1] = -100
    (a, dh), (a64, dh64) = both(
        dtype, a.reshape(1, size), rng.standard_normal((1, size))
    )
    h = tanh.VERSIONS[name].forward(a)
    assert h.dtype == dtype and h.shape == a.shape
    compare(h, np.tanh(a64), dtype)
    compare(
        tanh.VERSIONS[name].backward(dh, h),
        dh64 * (1 - h.astype(np.float64) ** 2),
        dtype,
    )
    assert np.isnan(tanh.VERSIONS[name].forward(np.full((2, 2), np.nan, dtype))).all()


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli(name, dtype, shape):
    B, K, D = shape
    rng = np.random.default_rng(D)
    a = rng.choice([-100, -1.5, 0, 1e-3, 3, 100], shape) + rng.standard_normal(
        shape
    ) * (rng.random(shape) < 0.5)
    x = (rng.random((B, D)) < 0.5) * 1.0
    (a, b, x), args64 = both(dtype, a, rng.standard_normal(D), x)
    log_px = bernoulli.VERSIONS[name].forward(a, b, x)
    assert log_px.dtype == np.float64 and np.isfinite(log_px).all()
    compare(log_px, bernoulli.bernoulli_numpy(*args64), dtype)
    delta = bernoulli.VERSIONS[name].backward(a, b, x)
    assert delta.dtype == dtype
    compare(delta, bernoulli.bernoulli_backward_numpy(*args64), dtype)
    a[0, 0, 0] = np.nan
    assert np.isnan(bernoulli.VERSIONS[name].forward(a, b, x)[0, 0])


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_reparameterize(name, dtype, shape):
    B, K, L = shape
    rng = np.random.default_rng(L)
    log_sigma = rng.uniform(np.log(1e-8), np.log(1e8), (B, L))
    mu, eps, dz, path, score = (
        rng.standard_normal(s) for s in ((B, L), shape, shape, (B, K), (B, K))
    )
    (mu, log_sigma, eps, dz, path, score), args64 = both(
        dtype, mu, log_sigma, eps, dz, path, score
    )
    version = reparameterize.VERSIONS[name]
    z = version.forward(mu, log_sigma, eps)
    assert z.dtype == dtype
    compare(z, reparameterize.reparameterize_numpy(*args64[:3]), dtype)
    _, log_sigma64, eps64, dz64, path64, score64 = args64
    for p, s, p64, s64 in (
        (path, score, path64, score64),
        (path, -path, path64, -path64),
    ):
        results = version.backward(dz, eps, log_sigma, p, s)
        expected = reparameterize.reparameterize_backward_numpy(
            dz64, eps64, log_sigma64, p64, s64
        )
        sigma = np.exp(np.abs(log_sigma64))[
            :, None, :
        ]  # the size of the sums' terms: sigma or 1 / sigma
        scale = (
            1
            + np.abs(dz64) * sigma * (1 + np.abs(eps64))
            + (np.abs(p64) + np.abs(s64))[:, :, None] * sigma
        ).sum(axis=1)
        for got, want in zip(results, expected):
            assert got.dtype == dtype
            assert (np.abs(got - want) <= tolerance(dtype)["rtol"] * scale).all()


@pytest.mark.parametrize("name", NAMES)
def test_plain_gradient_never_divides_by_sigma(name):
    """With score = -path, eps / sigma drops out before it is rounded: exact even at
    sigma = 1e-8.
    """
    rng = np.random.default_rng(0)
    dz, eps = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    path = rng.random((3, 4)).astype(np.float32)
    log_sigma = np.full((3, 5), np.log(1e-8), np.float32)
    dmu, _ = reparameterize.VERSIONS[name].backward(dz, eps, log_sigma, path, -path)
    np.testing.assert_allclose(
        dmu, dz.astype(np.float64).sum(axis=1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1, 1e3])
def test_log_weight(name, dtype, shape, scale):
    B, K, L = shape
    rng = np.random.default_rng(L)
    log_sigma = rng.uniform(np.log(1e-8), np.log(1e8), (B, L))
    (z, eps, log_sigma), args64 = both(
        dtype, scale * rng.standard_normal(shape), rng.standard_normal(shape), log_sigma
    )
    log_px = -100 * rng.random((B, K))
    log_w = log_weight.VERSIONS[name].forward(log_px, z, eps, log_sigma)
    assert log_w.dtype == np.float64
    np.testing.assert_allclose(
        log_w, log_weight.log_weight_numpy(log_px, *args64), rtol=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (4, 7), (2, 5000)])
def test_softmax(name, shape):
    from scipy.special import logsumexp
    from scipy.special import softmax as scipy_softmax

    rng = np.random.default_rng(shape[1])
    log_w = rng.choice([-1e4, 0, 1e4], shape) + rng.standard_normal(shape)
    lse, w = softmax.VERSIONS[name].forward(log_w)
    np.testing.assert_allclose(lse, logsumexp(log_w, axis=1), rtol=1e-14)
    np.testing.assert_allclose(w, scipy_softmax(log_w, axis=1), rtol=1e-12)
    if shape[1] == 1:
        np.testing.assert_array_equal(lse, log_w[:, 0])
        np.testing.assert_array_equal(w, 1)


@pytest.mark.parametrize("name", NAMES)
def test_softmax_of_rows_that_are_not_finite(name):
    inf = np.inf
    log_w = np.array(
        [
            [-inf, -inf, -inf],
            [-inf, 2.0, -inf],
            [0.0, np.nan, 1.0],
            [np.nan, 0.0, 1.0],
            [0.0, 1.0, np.nan],
        ]
    )
    lse, w = softmax.VERSIONS[name].forward(log_w)
    assert lse[0] == -inf and (w[0] == 0).all()
    assert lse[1] == 2.0 and (w[1] == [0, 1, 0]).all()
    assert np.isnan(lse[2:]).all()


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("shape", [(1,), (4097,), (3, 5), (70, 130)])
def test_adam(name, dtype, shape):
    rng = np.random.default_rng(shape[0])
    (p, g, m, v), args64 = both(
        dtype, *rng.standard_normal((3, *shape)), rng.random(shape)
    )
    settings = {
        "t": 3,
        "learning_rate": 0.01,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-4,
    }
    adam.VERSIONS[name].step(p, g, m, v, *settings.values())
    adam.adam_numpy(*args64, *settings.values())
    for got, want in zip((p, m, v), (args64[0], args64[2], args64[3])):
        assert got.dtype == dtype
        compare(got, want, dtype)


DIGESTS = """
import hashlib, numpy as np, minivae as mv
rng = np.random.default_rng(0)
model = mv.VAE(113, (7,), ((30,),), rng=rng)
x = (rng.random((9, 113)) < 0.5).astype(np.float32)
adam = mv.Adam(model.params)
value, grads = mv.bound_and_grad(model, x, model.draw_eps(9, 6, rng))
adam.step(grads)
arrays = [np.float64(value), *grads.values(), *model.params.values()]
print([hashlib.md5(array.tobytes()).hexdigest() for array in arrays])
"""


def test_compiled_now_and_loaded_from_the_cache_agree_to_the_last_bit(tmp_path):
    """Or a run that was killed in the process that compiled would not resume alike."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, loaded = (
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            capture_output=True,
            text=True,
            env=env,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert compiled == loaded and len(compiled) > 100
