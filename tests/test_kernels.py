"""Every version of every kernel against an oracle in float64 that shares no code with
it (oracles.py), on inputs made hard on purpose.

The CUDA versions take part where there is a GPU with CuPy, and under the simulator,
NUMBA_ENABLE_CUDASIM=1 (test_cuda.py starts that process).
"""

import copy
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
from scipy import stats

from minivae.kernels import (
    FILES,
    NAMES,
    adam,
    average,
    bernoulli,
    coefficients,
    load_ops,
    log_weight,
    matmul,
    noise,
    reparameterize,
    softmax,
    tanh,
)
from minivae.kernels.device import SIMULATED


def gpu_is_there():
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # CuPy is missing, or finds no driver, or no device
        return False


CUDA = ("cuda",) if SIMULATED or gpu_is_there() else ()
LADDER = ("cuda_1", "cuda_2") + (() if SIMULATED else ("cuda_3",)) if CUDA else ()
VERSIONS = (*NAMES, *CUDA)
CASES = [(name, dtype) for name in VERSIONS for dtype in (np.float32, np.float64)]
# K = 1, and sizes that are no multiple of a block; the simulator's blocks are slow
SHAPES = [(1, 1, 1), (3, 1, 5), (2, 7, 113), (6, 34, 3) if SIMULATED else (5, 50, 4)]


def tolerance(dtype):
    return (
        {"rtol": 1e-11, "atol": 1e-12}
        if dtype == np.float64
        else {"rtol": 2e-5, "atol": 2e-5}
    )


def both(dtype, *arrays):
    """The arrays in ``dtype``, and those same values in float64 for the oracle."""
    arrays = [np.asarray(a, dtype) for a in arrays]
    return arrays, [a.astype(np.float64) for a in arrays]


def compare(results, expected, dtype):
    results = results if isinstance(results, tuple) else (results,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(got, want, **tolerance(dtype))


def version(kernel, name):
    """A version's functions, called with the host's arrays and returning such."""
    functions = kernel.VERSIONS[name]
    if name in NAMES or SIMULATED:
        return functions
    import cupy

    def on_device(function):
        def call(*arguments):
            there = [
                cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments
            ]
            result = function(*there)
            for a, b in zip(arguments, there):
                if isinstance(a, np.ndarray):
                    a[...] = b.get()  # what was changed in place
            if result is None:  # a kernel that works in place only
                return None
            several = isinstance(result, tuple)
            return tuple(r.get() for r in result) if several else result.get()

        return call

    return SimpleNamespace(**{n: on_device(f) for n, f in vars(functions).items()})


def test_every_file_has_every_version():
    for kernel in FILES:
        assert {*NAMES, "cuda"} <= kernel.VERSIONS.keys()
        functions = {tuple(vars(version)) for version in kernel.VERSIONS.values()}
        assert len(functions) == 1


@pytest.mark.parametrize("name", [*NAMES, "cuda"])
def test_ops_hold_one_version_of_every_kernel(name):
    """No function under the name of another; and they survive a copy and a pickle."""
    ops = load_ops(name)
    functions = {"name": name}
    for kernel in FILES:
        here = vars(kernel.VERSIONS[name])
        assert not here.keys() & functions.keys()
        functions |= here
    for same in (ops, copy.deepcopy(ops), pickle.loads(pickle.dumps(ops))):
        assert vars(same) == functions


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 1, 3), (17, 33, 9)])
@pytest.mark.parametrize("columns", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_matmul(name, dtype, sizes, columns):
    """Factors in rows and in columns; the result in new memory, and in old."""
    (M, N, O), rng = sizes, np.random.default_rng(0)
    a, b = (
        rng.standard_normal(shape[::-1]).T if in_columns else rng.standard_normal(shape)
        for shape, in_columns in zip(((M, N), (N, O)), columns)
    )
    (a, b), (a64, b64) = both(dtype, a, b)
    product = version(matmul, name).matmul
    assert product(a, b).dtype == dtype
    want = oracles.matmul(a64, b64)
    compare(product(a, b), want, dtype)
    compare(product(np.array(a[0]), b), want[0], dtype)
    out = np.full((M, O), np.nan, dtype)
    product(a, b, out)
    compare(out, want, dtype)


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("size", [1, 4095, 4097, 9000])
def test_tanh(name, dtype, size):
    rng = np.random.default_rng(size)
    a = rng.standard_normal(size) * 10.0 ** rng.integers(-8, 3, size)
    a[:: max(1, size // 7)] = 100
    a[-1] = -100
    # a bias to each of 1, 3 or 45 columns
    columns = next(n for n in (45, 3, 1) if size % n == 0)
    (a, b, dh), (a64, b64, dh64) = both(
        dtype,
        a.reshape(-1, columns),
        rng.standard_normal(columns),
        rng.standard_normal((size // columns, columns)),
    )
    h = version(tanh, name).tanh(a, b)
    assert h.dtype == dtype and h.shape == a.shape
    compare(h, oracles.tanh(a64, b64), dtype)
    compare(
        version(tanh, name).tanh_backward(dh, h),
        oracles.tanh_backward(dh64, h.astype(np.float64)),
        dtype,
    )
    nan = np.full((2, 2), np.nan, dtype)
    assert np.isnan(version(tanh, name).tanh(nan, np.zeros(2, dtype))).all()


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
    log_px = version(bernoulli, name).bernoulli(a, b, x)
    assert log_px.dtype == np.float64 and np.isfinite(log_px).all()
    compare(log_px, oracles.bernoulli(*args64), dtype)
    delta = version(bernoulli, name).bernoulli_backward(a, b, x)
    assert delta.dtype == dtype
    compare(delta, oracles.bernoulli_backward(*args64), dtype)
    a[0, 0, 0] = np.nan
    assert np.isnan(version(bernoulli, name).bernoulli(a, b, x)[0, 0])


@pytest.mark.parametrize("name, dtype", CASES)
def test_bernoulli_of_a_wide_image(name, dtype):
    """Every pixel at one half: a product of all 1 + exp(-|t|) would be 2^5000, and that
    of a simulated thread 2^156.
    """
    a, b, x = np.zeros((1, 2, 5000), dtype), np.zeros(5000, dtype), np.ones((1, 5000))
    log_px = version(bernoulli, name).bernoulli(a, b, x.astype(dtype))
    np.testing.assert_allclose(log_px, -5000 * np.log(2), rtol=1e-6)


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
    functions = version(reparameterize, name)
    z = functions.reparameterize(mu, log_sigma, eps)
    assert z.dtype == dtype
    compare(z, oracles.reparameterize(*args64[:3]), dtype)
    _, log_sigma64, eps64, dz64, path64, score64 = args64
    for p, s, p64, s64 in (
        (path, score, path64, score64),
        (path, -path, path64, -path64),
    ):
        results = functions.reparameterize_backward(dz, eps, log_sigma, p, s)
        expected = oracles.reparameterize_backward(dz64, eps64, log_sigma64, p64, s64)
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


@pytest.mark.parametrize("name", VERSIONS)
def test_plain_gradient_never_divides_by_sigma(name):
    """With score = -path, eps / sigma drops out before it is rounded: exact even at
    sigma = 1e-8.
    """
    rng = np.random.default_rng(0)
    dz, eps = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    path = rng.random((3, 4)).astype(np.float32)
    log_sigma = np.full((3, 5), np.log(1e-8), np.float32)
    dmu, _ = version(reparameterize, name).reparameterize_backward(
        dz, eps, log_sigma, path, -path
    )
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
    log_w = version(log_weight, name).log_weight(log_px, z, eps, log_sigma)
    assert log_w.dtype == np.float64
    np.testing.assert_allclose(log_w, oracles.log_weight(log_px, *args64), rtol=1e-12)


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("B, K", [(1, 1), (5, 3), (7, 45)])
def test_coefficients(name, dtype, B, K):
    """Sizes at both limits and on either side, their signs, zeros, a row of zeros and
    NaN: all versions decide alike, to the last bit.
    """
    step = float(np.finfo(dtype).eps) / (2 * K)  # eq. 21.6
    least = float(np.finfo(dtype).tiny / np.finfo(dtype).eps)
    rng, arrays = np.random.default_rng(B), []
    near = np.outer([least, step], [0.9, 1, 1.1]).ravel()
    sizes = np.array([0, *near, 1])
    for _ in range(3):
        array = rng.choice(sizes, (B, K)) * rng.choice([-1, 1], (B, K))
        array[0, 0] = 1
        arrays.append(array)
    if B > 2:
        arrays[0][1] = arrays[1][1] = 0
        arrays[0][2, K // 2] = np.nan
    got = version(coefficients, name).coefficients(*arrays, np.dtype(dtype))
    want = oracles.coefficients(*arrays, step, least)
    for a, b, kind in zip(got, want, (bool, *[dtype] * 4), strict=True):
        assert a.dtype == kind
        np.testing.assert_array_equal(a, b.astype(kind))


@pytest.mark.parametrize("name", (*NAMES, *LADDER))
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (4, 7), (9, 33), (2, 5000)])
def test_softmax(name, shape):
    from scipy.special import logsumexp
    from scipy.special import softmax as scipy_softmax

    rng = np.random.default_rng(shape[1])
    log_w = rng.choice([-1e4, 0, 1e4], shape) + rng.standard_normal(shape)
    lse, w = version(softmax, name).softmax(log_w)
    np.testing.assert_allclose(lse, logsumexp(log_w, axis=1), rtol=1e-14)
    np.testing.assert_allclose(w, scipy_softmax(log_w, axis=1), rtol=1e-12)
    if shape[1] == 1:
        np.testing.assert_array_equal(lse, log_w[:, 0])
        np.testing.assert_array_equal(w, 1)


@pytest.mark.parametrize("name", (*NAMES, *LADDER))
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
    lse, w = version(softmax, name).softmax(log_w)
    assert lse[0] == -inf and (w[0] == 0).all()
    assert lse[1] == 2.0 and (w[1] == [0, 1, 0]).all()
    assert np.isnan(lse[2:]).all()


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("shape", [(1,), (17,), (4097,)])
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
    assert bool(version(adam, name).adam(p, g, m, v, *settings.values()))
    for got, want in zip((p, m, v), oracles.adam(*args64, *settings.values())):
        assert got.dtype == dtype
        compare(got, want, dtype)


@pytest.mark.parametrize("name, dtype", CASES)
def test_average(name, dtype):
    rng = np.random.default_rng(0)
    (a, p), args64 = both(dtype, *rng.standard_normal((2, 137)))
    version(average, name).average(a, p, 0.9)
    compare(a, oracles.average(*args64, 0.9), dtype)


@pytest.mark.parametrize("name, dtype", CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "largest"])
@pytest.mark.parametrize("where", [0, 16, 36])
@pytest.mark.filterwarnings("ignore:.*overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*invalid value:RuntimeWarning")
def test_adam_sees_what_is_not_finite(name, dtype, bad, where):
    """In the gradient, or in its square."""
    largest = float(np.finfo(dtype).max)
    g = np.full(37, np.sqrt(largest) / 2)
    bad = largest if bad == "largest" else bad
    state, settings = np.zeros((3, 37), dtype), (1, 0.01, 0.9, 0.999, 1e-4)
    step = version(adam, name).adam
    assert bool(step(state[0], g.astype(dtype), *state[1:], *settings))
    g[where] = bad
    assert not bool(step(state[0], g.astype(dtype), *state[1:], *settings))


# Random123's known answers: counter, key, words
PHILOX = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


@pytest.mark.parametrize("case", PHILOX)
def test_philox_is_the_published_one(case):
    counter, key, words = ([int(word, 16) for word in text.split()] for text in case)
    assert [int(word) for word in noise.philox_numpy(key, counter)] == words
    assert oracles.philox(key, counter) == words


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 50, 784, 2500])
def test_noise(name, n):
    """As the oracle: uniform to the last bit, normal to float32's rounding."""
    draw, grey = version(noise, name), np.random.default_rng(n).random((3, n))
    for key in ((0, 0), (2**32 - 1, 2**32 - 1), (7, 11)):
        for where in [(0, 3, n, 0, 0), (2, 1, n, 3000, (2**20 << 8) + 255)]:
            u, z = draw.uniform(key, *where), draw.normal(key, *where)
            want_u, want_z = oracles.noise(key, *where)
            for numbers in (u, z):
                assert numbers.dtype == np.float32 and numbers.shape == (where[1], n)
            np.testing.assert_array_equal(u, want_u)
            assert u.min() >= 0 and u.max() < 1
            np.testing.assert_allclose(z, want_z, rtol=1e-5, atol=2e-6)
            for dtype in (np.float32, np.float64):
                some = grey[: where[1]].astype(dtype)
                some[:, ::3] = u[:, ::3]  # not below: a zero
                x = draw.binarize(key, where[0], some, *where[3:])
                assert x.dtype == dtype
                np.testing.assert_array_equal(x, want_u < some)


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_noise(name):
    """Uniform and normal by Kolmogorov and Smirnov, and no two counters alike."""
    draw, key = version(noise, name), (1, 2)
    z = draw.normal(key, 0, 200, 1001, 5, 1)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    u = draw.uniform(key, 0, 200, 1001, 5, 1)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    error = 1 / np.sqrt(z[:, :1000].size)
    for shift in (1, 250, 251, 500, 750):  # neighbours, and words of one block
        assert abs((z[:, :-shift] * z[:, shift:]).mean()) < 10 * error
    squares = z[:, :250] ** 2 + z[:, 251:501] ** 2
    assert stats.kstest(squares.ravel() / 2, "expon").pvalue > 1e-3
    changed = [((2, 2), 0, 5, 1), (key, 1, 5, 1)]
    changed += [(key, 0, 6, 1), (key, 0, 5, 2)]
    for other_key, first, step, stream in changed:
        other = draw.normal(other_key, first, 200, 1001, step, stream)
        assert abs((z * other).mean()) < 5 * error
    np.testing.assert_array_equal(draw.normal(key, 60, 9, 1001, 5, 1), z[60:69])


def test_the_ends_of_a_word():
    """The smallest and the largest word give finite numbers of the right size."""
    words = np.array([0, 1, 2**16, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    logs = np.array([noise.log_float32(word) for word in words])
    exact = np.log((words + 0.5) / 2**32)
    np.testing.assert_allclose(logs, exact, rtol=3e-7, atol=1e-7)
    turns = np.array([noise.cos_sin_float32(word) for word in words]).T
    angle = 2 * np.pi * words / 2**32
    np.testing.assert_allclose(turns, [np.cos(angle), np.sin(angle)], atol=3e-7)


def test_the_smallest_word_of_the_reference(monkeypatch):
    """Its logarithm is of half a step, and not of zero or less."""
    zeros = [np.zeros((1, 1), np.uint64)] * 4
    monkeypatch.setattr(noise, "words_numpy", lambda *counter: zeros)
    z = noise.normal_numpy((0, 0), 0, 1, 4, 0, 0)
    r = np.sqrt(2 * 33 * np.log(2))
    np.testing.assert_allclose(z, [[r, 0, r, 0]], rtol=1e-6)


def test_short_series_are_long_enough():
    """The polynomials in the place of the library's functions, all over their ranges:
    so near that a term less, or a coefficient that is 1 % off, shows.
    """
    x = np.linspace(-9, 9, 5_001, dtype=np.float32)
    tanhs = [tanh.tanh_float32(t) for t in x]
    np.testing.assert_allclose(tanhs, np.tanh(x.astype(float)), rtol=4e-7)
    u = np.linspace(-87, 0, 5_001, dtype=np.float32)
    exps = np.array([bernoulli.exp_float32(x) for x in u])
    np.testing.assert_allclose(exps, np.exp(u.astype(float)), rtol=4e-6)
    near = u > -1  # where y * log 2 itself has no rounding error to speak of
    np.testing.assert_allclose(exps[near], np.exp(u[near].astype(float)), rtol=2.5e-7)
    words = np.arange(0, 2**32, 2**32 // 5_003).astype(np.uint32)
    logs = np.array([noise.log_float32(word) for word in words])
    np.testing.assert_allclose(
        logs, np.log((words + 0.5) / 2**32), rtol=2e-7, atol=1e-7
    )
    cos, sin = np.array([noise.cos_sin_float32(word) for word in words]).T
    angle = 2 * np.pi * words / 2**32
    np.testing.assert_allclose(cos, np.cos(angle), atol=1.5e-7)
    np.testing.assert_allclose(sin, np.sin(angle), atol=1.5e-7)


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
