"""What a model answers without training, and its file."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logsumexp

import minivae as mv
from minivae.experiments import oracle

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
X = (np.random.default_rng(0).random((7, 6)) < 0.5) * 1.0


def model_of(latent_dims=(3,), hidden_dims=((4,),), dtype=np.float64, **settings):
    rng = np.random.default_rng(0)
    model = mv.VAE(6, latent_dims, hidden_dims, dtype=dtype, rng=rng, **settings)
    for array in model.params.values():
        array += 0.2 * rng.standard_normal(array.shape)
    return model


TWO = {"latent_dims": (3, 2), "hidden_dims": ((4, 5), (3,))}


def test_samples_are_drawn_from_the_top():
    """Through each layer's own p, in SciPy's words."""
    dims = {"latent_dims": (3, 2, 4), "hidden_dims": ((4, 5), (3,), (2,))}
    model, rng = model_of(**dims), np.random.default_rng(7)
    z = rng.standard_normal((6, 4))
    for l in (3, 2):
        p = oracle.network(model.params, f"p{l}", z)
        z = p["mu"] + np.exp(p["log_sigma"]) * rng.standard_normal(p["mu"].shape)
    expected = expit(oracle.network(model.params, "p1", z)["logits"])
    np.testing.assert_allclose(model.sample(6, 7), expected, rtol=1e-12)


# Bounds without gradients


def test_the_bound_of_each_image():
    """Its mean over seeds is that of other samples; and the samples are the seed's."""
    model = model_of()
    for name in model.params:
        if name.startswith("q"):  # wider than the posterior: no heavy tails
            model.params[name] *= 0.2
    many = np.mean([model.bound(X, 5, rng=seed) for seed in range(100)], axis=0)
    eps = model.draw_eps(7, 5000, np.random.default_rng(1))
    z = oracle.draw(model.params, X, eps)
    log_w = oracle.log_p(model.params, X, z) - oracle.log_q(model.params, X, z)
    groups = logsumexp(log_w.reshape(7, -1, 5), axis=2) - np.log(5)
    assert many.shape == (7,) and many.dtype == np.float64
    np.testing.assert_allclose(many, groups.mean(axis=1), atol=0.1)
    np.testing.assert_array_equal(model.bound(X, 5), model.bound(X, 5, rng=0))
    assert (model.bound(X, 5) != model.bound(X, 5, rng=1)).all()


def test_a_generator_goes_on():
    """Each time it draws a seed, which is any whole number of 63 bits."""
    model, rng = model_of(), np.random.default_rng(0)
    first, second = model.bound(X, 5, rng=rng), model.bound(X, 5, rng=rng)
    assert (first != second).all()
    np.testing.assert_array_equal(
        first, model.bound(X, 5, rng=np.random.default_rng(0))
    )
    seed = int(np.random.default_rng(0).integers(2**63))
    np.testing.assert_array_equal(first, model.bound(X, 5, rng=seed))


@pytest.mark.parametrize("shape", [{}, TWO])
def test_bounds_and_options(shape):
    model = model_of(**shape)
    elbo, iwae = model.bound(X, 6, "elbo"), model.bound(X, 6, "iwae")
    assert (elbo < iwae).all()
    np.testing.assert_allclose(model.bound(X, 6, "miwae", m=6), elbo)
    np.testing.assert_allclose(model.bound(X, 6, "vr", alpha=0.0), iwae)
    # an image's samples are its own, whichever others there are, and however many
    np.testing.assert_allclose(model.bound(X[:3], 6), iwae[:3])
    same = model.bound(np.tile(X[0], (400, 1)), 6)  # in several chunks
    assert len(np.unique(same)) == 400 and same[0] == pytest.approx(iwae[0])


def test_the_bound_refuses():
    model = model_of()
    for call, words in (
        (lambda: model.bound(X / 2), "only 0 and 1"),
        (lambda: model.bound(X, 0), "k must be at least 1"),
        (lambda: model.bound(X, bound="elbow"), "bound must be one of"),
        (lambda: model.bound(X, bound="miwae", k=4), "needs the option m"),
        (lambda: model.bound(X, 4, alpha=1), "take no option alpha"),
        (lambda: model.bound(X, rng="0"), "rng must be a whole number"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()


# Encode and reconstruct


def test_the_second_layer_is_encoded_at_the_mean_of_the_first():
    model = model_of(**TWO)
    mu, _ = oracle.network(model.params, "q1", X).values()
    wanted = oracle.network(model.params, "q2", mu)
    for head, name in zip(model.encode(X, layer=2), ("mu", "log_sigma")):
        np.testing.assert_allclose(head, wanted[name], rtol=1e-12)
    np.testing.assert_array_equal(model.encode(X)[0], model.encode(X, layer=1)[0])
    for layer, words in ((3, "layer must be at most 2"), (0, "at least 1")):
        with pytest.raises(ValueError, match=words):
            model.encode(X, layer)


def test_reconstruct():
    model = model_of()
    mu = oracle.network(model.params, "q1", X)["mu"]
    mean = expit(oracle.network(model.params, "p1", mu)["logits"])
    np.testing.assert_allclose(model.reconstruct(X), mean, rtol=1e-12)


@pytest.mark.parametrize("likelihood", mv.model.LIKELIHOODS)
def test_one_image_has_the_bound_that_it_has_among_others(likelihood):
    model = model_of(likelihood=likelihood)
    np.testing.assert_allclose(model.bound(X[:1], 4), model.bound(X, 4)[:1], 1e-12)


def test_it_says_what_it_is():
    model = model_of(**TWO)
    n = sum(array.size for array in model.params.values())
    want = f"VAE 6-4-5-(3)-3-(2), bernoulli, float64, on cpu: {n:,} parameters"
    assert repr(model) == want


# One file


@pytest.mark.parametrize(
    "settings",
    [
        {},
        TWO,
        {"dtype": np.float32, "kernels": "numpy"},
        {"hidden_dims": ((),), "likelihood": "gaussian"},
        {"likelihood": "gaussian", "x_sigma": 0.5},
        {"likelihood": "bernoulli-grey"},
    ],
)
def test_save_and_load(tmp_path, settings):
    model, path = model_of(**settings), tmp_path / "model.npz"
    model.save(path)
    loaded = mv.VAE.load(path, kernels=settings.get("kernels"))
    assert loaded.config() == model.config()
    assert list(loaded.params) == list(model.params)
    np.testing.assert_array_equal(loaded.params.vector, model.params.vector)
    np.testing.assert_array_equal(loaded.bound(X, 3), model.bound(X, 3))


def test_half_the_space(tmp_path):
    """Each parameter to float16's rounding; what it cannot hold is refused."""
    model, path = model_of(dtype=np.float32), tmp_path / "model.npz"
    model.save(path)
    whole = path.stat().st_size
    model.save(path, half=True)
    assert path.stat().st_size < whole
    loaded = mv.VAE.load(path)
    assert loaded.config() == model.config()
    np.testing.assert_allclose(
        loaded.params.vector, model.params.vector, rtol=2**-11, atol=2**-25
    )
    model.params["q1.mu.b"][0] = 1e6
    with pytest.raises(ValueError, match="model.npz: q1.mu.b is not finite as float16"):
        model.save(path, half=True)
    np.testing.assert_array_equal(mv.VAE.load(path).params.vector, loaded.params.vector)


def test_a_file_of_another_program_needs_the_parameters_only(tmp_path):
    model = model_of(**TWO)
    np.savez_compressed(tmp_path / "theirs.npz", **model.params)
    loaded = mv.VAE.load(str(tmp_path / "theirs.npz"))
    assert loaded.config() == model.config()
    np.testing.assert_array_equal(loaded.params.vector, model.params.vector)


def without(*names):
    return lambda arrays: [arrays.pop(name) for name in names]


def with_(**more):
    return lambda arrays: arrays.update(
        {name.replace("_", ".", 1): array for name, array in more.items()}
    )


@pytest.mark.parametrize(
    "spoil, words",
    [
        (without("p1.logits.b"), "p1.logits.b must be float64 (6,); got not there"),
        (without("q1.mu.W"), "no array called q1.mu.W"),
        (with_(p1_hidden2=0), None),  # another name, which is left alone
        (
            lambda arrays: arrays.update({"p1.hidden2.W": np.ones((4, 4))}),
            "p1.hidden2.W must be not there; got float64 (4, 4)",
        ),
        (
            lambda arrays: arrays.update({"p2.mu.W": np.ones((4, 4))}),
            "p2.mu.W must be not there",
        ),
        (
            lambda arrays: arrays.update({"p1.logits.W": np.ones((5, 6))}),
            "p1.logits.W must be float64 (4, 6); got float64 (5, 6)",
        ),
        (
            lambda arrays: arrays.update({"q1.mu.b": np.ones(3, np.float32)}),
            "q1.mu.b must be float64 (3,); got float32 (3,)",
        ),
        (
            lambda arrays: arrays.update({"q1.mu.b": np.full(3, np.nan)}),
            "q1.mu.b holds NaN",
        ),
        (
            lambda arrays: arrays.update({"q1.mu.b": np.ones((3, 1))}),
            "q1.mu.b must have 1 axes",
        ),
        (with_(likelihood="poisson"), "likelihood must be one of"),
        (with_(likelihood=np.ones(3)), "likelihood must be one of"),
        (
            lambda arrays: arrays.update({"q1.mu.b": np.array([None] * 3)}),
            "not an array of plain numbers",
        ),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, spoil, words):
    arrays, path = dict(model_of().params), tmp_path / "model.npz"
    spoil(arrays)
    np.savez(path, **arrays)
    if words is None:
        mv.VAE.load(path)
        return
    with pytest.raises(ValueError) as error:
        mv.VAE.load(path)
    assert words in str(error.value) and str(path) in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        mv.VAE.load(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match="not a model"):
        mv.VAE.load(tmp_path / "text.npz")


def test_the_trained_model():
    """What comes with minivae: at most 1 MB, and as good as its page says."""
    path = mv.model.TRAINED
    assert path.stat().st_size < 2**20
    model, images = mv.VAE.load(), mv.load("mnist").test_images[:200]
    result = mv.evaluate(model, images, 200, progress=False)
    assert result.nll < 90
    cells = json.loads((RESULTS / "table1" / "table1.json").read_text())["rows"]
    (row,) = (
        row for row in cells
        if (row["cell"], row["preset"], row["seed"]) == ("mnist-1-iwae-5", "burda", 0)
    )  # fmt: skip
    assert result.active_units == row["active_units"]
    assert np.isclose(row["nll"], 85.07, atol=0.01)
