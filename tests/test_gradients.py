"""Every backward against finite differences, in float64, for both kernel versions."""

import numpy as np
import pytest

import minivae as mv
from minivae import gaussian
from minivae.check import TOLERANCE, check_array, check_gradients
from minivae.engine import batching
from minivae.engine.registry import CLOSED_FORMS, bound_names
from minivae.experiments import oracle
from minivae.gradcheck import check_pieces, examples, small_model
from minivae.gradient import gradient
from minivae.log_weights import log_weights_backward, log_weights_forward
from minivae.networks import encoder_backward, encoder_forward
from minivae.subsampling import kept_rows

KERNELS = ["numpy", "numba"]
DEPTHS = {
    "one layer": ((5,), ((7, 6),)),
    "two layers": ((4, 3), ((6, 5), (4, 5))),
    "three": ((3, 3, 2), ((4,), (4,), (4,))),
}


def assert_all(checks):
    for check in checks:
        assert check.error <= TOLERANCE, (
            f"{check.name}: analytic {check.analytic!r}, numeric {check.numeric!r}"
        )


@pytest.mark.parametrize("closed", [False, True])
def test_without_a_scale_it_is_the_sum_over_images(closed):
    model, x, eps = small_model("numpy", *DEPTHS["one layer"])
    grads, B = model.params.zeros(), len(x)
    if closed:
        CLOSED_FORMS["elbo_kl"].function(model, x, eps, grads)
    else:
        gradient(model, x, eps, mv.BOUNDS["elbo"], mv.ESTIMATORS["reparam"], grads)
    bound = "elbo_kl" if closed else "elbo"
    _, of_mean = mv.bound_and_grad(model, x, eps, bound)
    np.testing.assert_allclose(grads.vector, B * of_mean.vector, 1e-12, 1e-14)


@pytest.mark.parametrize("kernels", KERNELS)
def test_pieces(kernels):
    checks = check_pieces(kernels)
    assert_all(checks)
    pieces = {check.name.split(":")[0] for check in checks}
    assert pieces >= {"linear", "tanh", "mlp", "bernoulli", "reparameterize", "kl"}
    assert pieces >= {"log_density", "log_weight"}
    assert pieces >= {f"{bound}, {row}" for bound in mv.BOUNDS for row in ("c", "dc")}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    "depth, bound",
    [(depth, bound) for depth in DEPTHS for bound in mv.BOUNDS]
    # of one layer only: see test_bad_input
    + [("one layer", bound) for bound in CLOSED_FORMS],
)
def test_whole_model(kernels, depth, bound):
    model, x, eps = small_model(kernels, *DEPTHS[depth], k=4)
    checks = check_gradients(model, x, eps, bound, **examples(bound))
    assert_all(checks)
    assert [check.name for check in checks] == list(model.params)


def test_the_papers_architecture():
    model = mv.VAE(784, dtype=np.float64, rng=np.random.default_rng(0))
    images = mv.load("mnist").test_images[:3].astype(np.float64)
    x = mv.binarize(images, np.random.default_rng(0))
    eps = model.draw_eps(3, 2, np.random.default_rng(0))
    assert_all(check_gradients(model, x, eps))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_any_coefficients(kernels, depth):
    """Any rows theta, path, score give the sums that estimators.py promises, by the
    oracle's densities.
    """
    model, x, eps = small_model(kernels, *DEPTHS[depth])
    params, rng = model.params, np.random.default_rng(1)
    theta, path, score = (rng.standard_normal((len(x), 3)) for _ in range(3))
    start = {name: array.copy() for name, array in params.items()}
    z_start = oracle.draw(start, x, eps)

    def objective():
        z = oracle.draw(params, x, eps)
        through_z = oracle.log_p(start, x, z) - oracle.log_q(start, x, z)
        return (
            theta * oracle.log_p(params, x, z_start)
            + path * through_z
            + score * oracle.log_q(params, x, z_start)
        ).sum()

    grads = params.zeros()
    q1, q1_hs = encoder_forward(model, x)
    _, cache = log_weights_forward(model, x, q1, eps)
    rows = {"theta": theta, "path": path, "score": score}
    dq1 = log_weights_backward(model, cache, grads, **rows, select=kept_rows)
    encoder_backward(model, dq1, q1_hs, grads)
    assert_all(
        check_array(name, objective, params[name], grads[name], rng) for name in params
    )


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_log_weights_against_scipy(kernels, depth):
    model, x, eps = small_model(kernels, *DEPTHS[depth])
    z = oracle.draw(model.params, x, eps)
    expected = oracle.log_p(model.params, x, z) - oracle.log_q(model.params, x, z)
    np.testing.assert_allclose(model.log_weights(x, eps), expected, rtol=1e-12)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("bound", bound_names())
def test_chunks_change_nothing(kernels, bound, monkeypatch):
    model, _, _ = small_model(kernels, *DEPTHS["one layer"])
    rng = np.random.default_rng(2)
    x, eps = (rng.random((7, 12)) < 0.5) * 1.0, model.draw_eps(7, 4, rng)
    arguments, options = (model, x, eps, bound), examples(bound)
    value, grads = mv.bound_and_grad(*arguments, **options)
    monkeypatch.setattr(batching, "CHUNK_ROWS", 8)  # 2 images, and 7 is odd
    assert len(batching.chunks(slice(0, 7), 4)) == 4
    chunked_value, chunked = mv.bound_and_grad(*arguments, **options)
    assert value == pytest.approx(chunked_value, rel=1e-14)
    for name in grads:
        np.testing.assert_allclose(chunked[name], grads[name], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_iwae_with_one_sample_is_the_elbo_to_the_last_bit(depth, dtype):
    latent_dims, hidden_dims = DEPTHS[depth]
    rng = np.random.default_rng(3)
    model = mv.VAE(12, latent_dims, hidden_dims, dtype=dtype, rng=rng)
    x, eps = (rng.random((5, 12)) < 0.5) * 1.0, model.draw_eps(5, 1, rng)
    iwae, iwae_grads = mv.bound_and_grad(model, x, eps, "iwae")
    elbo, elbo_grads = mv.bound_and_grad(model, x, eps, "elbo")
    assert iwae == elbo
    for name in elbo_grads:
        np.testing.assert_array_equal(iwae_grads[name], elbo_grads[name])


@pytest.mark.parametrize("bound", bound_names())
def test_a_float32_gradient_is_near_the_float64_one(bound):
    models = {}
    for dtype in (np.float32, np.float64):
        models[dtype] = mv.VAE(784, dtype=dtype, rng=np.random.default_rng(0))
    x = mv.binarize(mv.load("mnist").test_images[:20], np.random.default_rng(0))
    eps = models[np.float32].draw_eps(20, 8, np.random.default_rng(1))
    (value32, grads32), (value64, grads64) = (
        mv.bound_and_grad(model, x, eps, bound, **examples(bound))
        for model in models.values()
    )
    assert value32 == pytest.approx(value64, rel=1e-5)
    for name in grads64:
        assert grads32[name].dtype == np.float32
        error = np.linalg.norm(grads32[name] - grads64[name])
        assert error / np.linalg.norm(grads64[name]) < 2e-4, name


def test_elbo_kl_and_elbo_have_one_mean():
    """Averaged over eps, the closed-form KL and the sampled one agree: value and
    gradient.
    """
    model, x, _ = small_model("numba", (2,), ((5,),))
    rng = np.random.default_rng(4)
    draws = {"elbo": [], "elbo_kl": []}
    for _ in range(40):
        eps = model.draw_eps(len(x), 500, rng)
        for bound, rows in draws.items():
            value, grads = mv.bound_and_grad(model, x, eps, bound)
            heads = grads["q1.mu.b"], grads["q1.log_sigma.b"]
            rows.append(np.concatenate([[value], *heads]))
    difference = np.array(draws["elbo"]) - np.array(draws["elbo_kl"])
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    assert (np.abs(difference.mean(axis=0)) < 4.5 * error + 1e-12).all()


def test_a_wrong_gradient_is_seen(monkeypatch):
    """The check itself can fail: one sign in one backward."""
    right = gaussian.log_density_backward

    def wrong_sign(**arrays):
        dz, dmu, dlog_sigma = right(**arrays)
        return dz, -dmu, dlog_sigma

    monkeypatch.setattr(gaussian, "log_density_backward", wrong_sign)
    checks = check_pieces("numpy")
    wrong = [check.name for check in checks if not check.error <= TOLERANCE]
    assert wrong == ["log_density: mu"]
