"""Which samples go through the backward pass, and the numbers too small for it."""

import numpy as np
import pytest

import minivae as mv
from minivae.kernels import NAMES, load_ops
from minivae.kernels.coefficients import above_rounding
from minivae.subsampling import in_their_places, kept_rows, subsample, subsampled

EPS = np.finfo(np.float32).eps


def subnormals(array):
    """How many of its numbers are subnormal."""
    size = np.abs(array)
    return int(((size > 0) & (size < np.finfo(array.dtype).tiny)).sum())


def test_which_samples_are_above_rounding():
    step = EPS / (2 * 3)
    theta = np.array([[1, 1.1 * step, 0.9 * step], [1, 0, 0], [0, 0, 0]])
    theta = np.concatenate([theta, [[2e-30, 1e-30, 1e-38]]])
    keep = above_rounding(theta, np.zeros_like(theta), np.float32)
    np.testing.assert_array_equal(keep, [[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    assert above_rounding(theta, 0 * theta, np.float64).sum() == 3 + 1 + 0 + 3


def test_either_coefficient_is_judged_by_its_own_largest():
    """rws-dreg with two weights far apart has equal paths: both rows are kept."""
    log_w = np.array([[0.0, np.log(1e-10)]])
    _, theta, path, _ = mv.ESTIMATORS["rws-dreg"](mv.BOUNDS["iwae"], log_w)
    assert path[0, 0] == pytest.approx(path[0, 1])
    assert above_rounding(theta, path, np.float32).all()
    assert not above_rounding(theta, theta, np.float32).all()
    assert above_rounding(-path, theta, np.float32).all()


def test_the_elbo_keeps_all():
    log_w = 100 * np.random.default_rng(0).standard_normal((4, 50))
    _, theta, path, _ = mv.ESTIMATORS["reparam"](mv.BOUNDS["elbo"], log_w)
    assert above_rounding(theta, path, np.float32).all()


@pytest.mark.parametrize("kept", [0, 1, 17, 18, 19, 20])
def test_kept_rows(kept):
    """In order; of 20, 18 are picked, but where 19 are kept all are."""
    keep = np.zeros((4, 5), bool)
    keep.ravel()[:kept] = True
    rows, theta = kept_rows(keep, keep * 1.0)
    if kept > 18:
        assert rows == slice(None)
    else:
        np.testing.assert_array_equal(rows, np.arange(kept))
    np.testing.assert_array_equal(theta, keep)


@pytest.mark.parametrize("rows", [slice(None), [], [1, 4], [0, 2, 3, 5]])
def test_rows_in_their_places(rows):
    whole = np.arange(12.0).reshape(6, 2)
    rows = rows if isinstance(rows, slice) else np.array(rows, int)
    placed = in_their_places(whole[rows], rows, 6)
    np.testing.assert_array_equal(placed[rows], whole[rows])
    assert (np.delete(placed, rows, axis=0) == 0).all() and placed.shape == (6, 2)


def test_a_uniform_number_of_zero_draws_no_sample_of_weight_zero():
    theta = np.array([[0.0, 1, 3], [2, 0, 2]])
    how = {"backward": "single", "tau": 0.1, "uniform": np.zeros((2, 1))}
    np.testing.assert_array_equal(
        subsample(theta, theta, **how), [[0, 4, 0], [2, 0, 0]]
    )
    how |= {"backward": "sparse", "tau": 4.0, "uniform": np.zeros((2, 3))}
    np.testing.assert_array_equal(
        subsample(theta, theta, **how), [[0, 4, 4 / 3], [2, 0, 2]]
    )


@pytest.fixture(scope="module")
def trained():
    """A model whose weights are uneven, in either type, with x and eps."""
    images = mv.load("mnist").train_images[:3000]
    model = mv.VAE(784, rng=np.random.default_rng(0), x_mean=images.mean(axis=0))
    mv.train(model, images, k=10, epochs=4, batch=50, progress=False)
    double = mv.VAE(784, dtype=np.float64, rng=np.random.default_rng(0))
    double.params.vector[:] = model.params.vector
    x = mv.binarize(images[:40], np.random.default_rng(1))
    return model, double, x, model.draw_eps(40, 50, np.random.default_rng(2))


def keeping_all(model):
    """``model.ops.coefficients`` by which no sample is below rounding."""

    def coefficients(theta, path, score, dtype):
        rest = (c.astype(dtype) for c in (theta, path, path, score))
        return np.ones(theta.shape, bool), *rest

    return model.ops, "coefficients", coefficients


@pytest.mark.parametrize("estimator", ["reparam", "dreg", "rws-dreg", "piwae"])
def test_what_is_below_rounding_is_not_missed(trained, estimator, monkeypatch):
    """Array by array, the float32 error against float64 grows by a quarter at most."""
    model, double, x, eps = trained
    options = {"m": 10} if estimator == "piwae" else {}
    kept, real = [], model.ops.coefficients

    def errors():
        _, got = mv.bound_and_grad(model, x, eps, "iwae", estimator, **options)
        return {name: np.linalg.norm(got[name] - exact[name]) for name in exact}

    def counted(*arguments):
        keep, *rest = real(*arguments)
        kept.append(keep.mean())
        return keep, *rest

    with monkeypatch.context() as patch:
        patch.setattr(*keeping_all(double))
        _, exact = mv.bound_and_grad(double, x, eps, "iwae", estimator, **options)
        patch.setattr(*keeping_all(model))
        everything = errors()
    monkeypatch.setattr(model.ops, "coefficients", counted)
    audible = errors()
    assert 0.2 < np.mean(kept) < 0.95
    for name in exact:
        assert audible[name] < 1.25 * everything[name], name


def test_in_float64_too(trained, monkeypatch):
    _, model, x, eps = trained
    _, kept = mv.bound_and_grad(model, x, eps)
    monkeypatch.setattr(*keeping_all(model))
    _, everything = mv.bound_and_grad(model, x, eps)
    for name in kept:
        error = np.linalg.norm(kept[name] - everything[name])
        assert error < 1e-14 * np.linalg.norm(everything[name])


def test_no_coefficient_is_subnormal(monkeypatch):
    """Nor could its product with another number be: weights down to 1e-45."""
    model = mv.VAE(6, (2,), ((3,),), rng=np.random.default_rng(0))
    seen, real = [], model.ops.coefficients

    def spy(*arguments):
        keep, *coefficients = real(*arguments)
        seen.extend(coefficients)
        return keep, *coefficients

    monkeypatch.setattr(model.ops, "coefficients", spy)
    model.params["p1.logits.W"][:] *= 60  # log-weights far apart
    x = np.eye(6, dtype=np.float32)
    eps = model.draw_eps(6, 200, np.random.default_rng(1))
    _, c, _ = mv.BOUNDS["iwae"](model.log_weights(x, eps))
    assert subnormals(c.astype(np.float32)) > 0
    for estimator in ("reparam", "dreg", "rws", "rws-dreg"):
        mv.bound_and_grad(model, x, eps, estimator=estimator)
    smallest = min(np.abs(a[a != 0]).min() for a in seen if a.any())
    assert smallest >= np.finfo(np.float32).tiny / EPS


@pytest.mark.parametrize("kernels", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_end_at_zero(kernels, dtype):
    """Of a gradient that was and is no more; the parameter then stays."""
    adam, n = load_ops(kernels).adam, 300
    rng = np.random.default_rng(0)
    p, m, v = np.zeros((3, n), dtype)
    tiny = float(np.finfo(dtype).tiny)
    g = np.exp(rng.uniform(np.log(tiny) / 2, 0, n)).astype(dtype)  # g^2 >= tiny
    rates = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.5, "epsilon": 1e-8}
    for t in range(1, 8000):
        adam(p, g if t == 1 else 0 * g, m, v, t=t, **rates)
        if t % 100 == 1:
            assert subnormals(m) == subnormals(v) == 0
    assert not m.any() and not v.any()


@pytest.mark.parametrize("kernels", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_smallest_normal_moments_stay(kernels, dtype):
    tiny = np.finfo(dtype).tiny
    g = np.array([tiny, -tiny, np.sqrt(tiny)], dtype)
    p, m, v = np.zeros((3, 3), dtype)
    rates = {"learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.0, "epsilon": 1e-8}
    load_ops(kernels).adam(p, g, m, v, t=1, **rates)
    np.testing.assert_array_equal(m, g)
    np.testing.assert_array_equal(v, np.array([0, 0, tiny], dtype))


def test_training_leaves_no_subnormal_number():
    """Images with pixels that are black but for one image, the 292nd of the epoch."""
    rng = np.random.default_rng(0)
    images = np.zeros((2000, 9), np.float32)
    images[:, :4] = rng.random((2000, 4))
    images[0, 4:] = 1
    model = mv.VAE(9, (2,), ((4,),), rng=rng, x_mean=images.mean(axis=0))
    seen = {}

    class Seen(mv.Adam):
        def step(self, grads):
            seen.update(grads=grads.vector, m=self.m.vector, v=self.v.vector)
            return super().step(grads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minivae.training.Adam", Seen)
        mv.train(model, images, k=5, epochs=1, batch=1, progress=False)
    for name, array in seen.items():
        assert subnormals(array) == 0, name
    assert subnormals(model.params.vector) == 0
    assert (seen["m"] == 0).any()  # 0.9^1700 of what the pixels left there


def test_the_score_is_masked_with_its_path():
    """Where it is the path's opposite, and nowhere else."""
    theta, path = np.full((1, 4), 0.25), np.array([[0.2, 0.2, 0.0, 0.3]])
    score = np.array([[-0.2, 0.1, 0.0, -0.3]])

    def estimator(bound, log_w):
        return np.zeros(1), theta, path, score

    uniform = np.array([[0.0, 0.0, 0.0, 0.99]])
    fewer = subsampled(estimator, "sparse", tau=0.5, uniform=uniform)
    _, theta_s, path_s, score_s = fewer(None, None)
    np.testing.assert_allclose(theta_s, [[0.5, 0.5, 0.5, 0]])
    np.testing.assert_allclose(path_s, [[0.4, 0.4, 0, 0]])
    np.testing.assert_allclose(score_s, [[-0.4, 0.1, 0, 0]])
