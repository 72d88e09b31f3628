"""The evaluation against a model whose log p(x) quadrature gives exactly, and its parts
against each other.
"""

import inspect
import io
import itertools

import numpy as np
import pytest
from scipy import special, stats
from tqdm import tqdm

import minivae as mv
from minivae import evaluation
from minivae.engine.files import read_json, write_json
from minivae.engine.noise import draw_eps
from minivae.experiments import oracle


def tiny_model(latent_dims=(1,), hidden_dims=((4,),)):
    rng = np.random.default_rng(0)
    model = mv.VAE(3, latent_dims, hidden_dims, dtype=np.float64, rng=rng)
    for name, array in model.params.items():
        array += 0.4 * rng.standard_normal(array.shape)
        if not name.startswith("p1"):
            # near N(0, I), so that q is wider than the posterior: no heavy tails
            array *= 0.2
    return model


def exact_log_px(model, x):
    """log p(x) of a model with one latent unit, by Gauss-Hermite quadrature over the
    prior.
    """
    z, weight = special.roots_hermitenorm(120)
    logits = oracle.network(model.params, "p1", z[:, None])["logits"]  # (120, 3)
    log_px = (
        x[:, None] * special.log_expit(logits)
        + (1 - x[:, None]) * special.log_expit(-logits)
    ).sum(axis=2)
    return special.logsumexp(log_px + np.log(weight / weight.sum()), axis=1)


ALL_X = np.array(list(itertools.product((0.0, 1.0), repeat=3)))


def test_quadrature_sums_to_one():
    p = np.exp(exact_log_px(tiny_model(), ALL_X))
    assert p.sum() == pytest.approx(1, rel=1e-12)


def test_nll_and_bounds():
    model = tiny_model()
    x = np.tile(ALL_X, (20, 1))  # binary images: binarisation leaves them alone
    result = mv.evaluate(model, x, k=5000, progress=False)
    exact = exact_log_px(model, x).mean()
    assert result.nll == pytest.approx(-exact, abs=2e-3)
    assert list(result.bounds) == [1, 5, 50, 500, 5000]
    values = list(result.bounds.values())
    assert values == sorted(values) and values[0] < values[-1] - 1e-3
    assert result.bounds[5000] == -result.nll
    error = exact_log_px(model, x).std(ddof=1) / np.sqrt(len(x))
    assert result.nll_se == pytest.approx(error, rel=0.02)

    # L_1 in closed form: quadrature over q
    u, weight = special.roots_hermitenorm(80)
    eps = np.broadcast_to(u[None, :, None], (8, 80, 1))
    z = oracle.draw(model.params, ALL_X, [eps])
    log_w = oracle.log_p(model.params, ALL_X, z) - oracle.log_q(model.params, ALL_X, z)
    elbo = (log_w @ weight / weight.sum()).mean()
    assert result.bounds[1] == pytest.approx(elbo, abs=5e-3)
    # and its two terms
    assert result.reconstruction - result.kl == pytest.approx(elbo, abs=5e-3)
    q = oracle.network(model.params, "q1", ALL_X)

    def kl(m, s):
        def log_ratio(z):
            return stats.norm.logpdf(z, m, s) - stats.norm.logpdf(z)

        return stats.norm.expect(log_ratio, loc=m, scale=s)

    kls = [kl(m, s) for m, s in zip(q["mu"][:, 0], np.exp(q["log_sigma"][:, 0]))]
    assert result.kl == pytest.approx(np.mean(kls), rel=1e-6)


def test_standard_error():
    """Of three images whose log p is known, as the decoder ignores z: over n - 1."""
    model = tiny_model()
    for name, array in model.params.items():
        if not name.startswith("p1.logits.b"):
            array[...] = 0
    x = ALL_X[[0, 3, 7]]
    log_px = stats.bernoulli.logpmf(x, special.expit(model.params["p1.logits.b"]))
    log_px = log_px.sum(axis=1)
    result = mv.evaluate(model, x, k=4, progress=False)
    assert result.nll == pytest.approx(-log_px.mean())
    assert result.nll_se == pytest.approx(stats.sem(log_px))


def test_two_layers_against_enumeration():
    """With two layers, too, exp(-nll) is a probability: over all x it sums to one."""
    model = tiny_model((2, 1), ((4,), (3,)))
    total = sum(
        np.exp(-mv.evaluate(model, x[None], k=5000, progress=False).nll) for x in ALL_X
    )
    assert total == pytest.approx(1, abs=0.02)
    for name in ("q1.mu.W", "q2.mu.W"):
        # means that move with x, well above the noise of 10,000 samples
        model.params[name] *= 10
    result = mv.evaluate(model, ALL_X, k=10_000, progress=False)
    assert len(result.active_units) == 2
    assert [variances.shape for variances in result.unit_variances] == [(2,), (1,)]
    elbo = result.reconstruction - result.kl
    assert elbo == pytest.approx(result.bounds[1], abs=1e-12)
    # E_q[z_2|x] is averaged over z_1
    eps = model.draw_eps(8, 200_000, np.random.default_rng(5))
    (z1,) = oracle.draw(model.params, ALL_X, eps[:1])
    mean = oracle.network(model.params, "q2", z1)["mu"].mean(axis=1)
    np.testing.assert_allclose(result.unit_variances[1], mean.var(axis=0), rtol=0.05)


def test_active_units():
    """A unit is active where its mean moves with x: here one that does, one just below
    the threshold, one dead.
    """
    model = mv.VAE(3, (3,), ((),), dtype=np.float64, rng=np.random.default_rng(0))
    model.params["q1.mu.W"][...] = 0
    # x_0 is a fair coin: variances 0.0225, 0.009, 0
    model.params["q1.mu.W"][0] = [0.3, 0.19, 0]
    result = mv.evaluate(model, ALL_X, k=10, progress=False)
    (variances,) = result.unit_variances
    np.testing.assert_allclose(variances, [0.0225, 0.009025, 0], atol=1e-12)
    assert result.active_units == [1]


def test_effective_sample_size_and_sorted_weights():
    model = tiny_model()
    result = mv.evaluate(model, ALL_X, k=300, progress=False)
    sizes = result.effective_sample_size
    assert sizes.shape == (8,)
    assert (1 <= sizes).all() and (sizes <= 300).all()
    assert result.sorted_weights.sum() == pytest.approx(1)
    assert (np.diff(result.sorted_weights) <= 0).all()
    # a decoder that ignores z and q = prior: all weights equal
    for name, array in model.params.items():
        if name != "p1.logits.b":
            array[...] = 0
    result = mv.evaluate(model, ALL_X, k=300, progress=False)
    np.testing.assert_allclose(result.effective_sample_size, 300)
    np.testing.assert_allclose(result.sorted_weights, 1 / 300)


@pytest.mark.parametrize(
    "k, expected", [(1, [1]), (7, [1, 5, 7]), (50, [1, 5, 50]), (60, [1, 5, 50, 60])]
)
def test_which_bounds(k, expected):
    assert list(mv.evaluate(tiny_model(), ALL_X, k, progress=False).bounds) == expected


def test_the_same_seeds_give_the_same_figures():
    model, grey = tiny_model(), np.random.default_rng(0).random((30, 3))

    def evaluation(**seeds):
        return mv.evaluate(model, grey, 20, **seeds, progress=False)

    first = evaluation()
    assert isinstance(first, mv.Evaluation)
    assert evaluation(seed=0, binarize_seed=0).summary() == first.summary()
    assert evaluation(seed=1).nll != first.nll
    assert evaluation(binarize_seed=1).nll != first.nll


def test_the_weights_are_drawn_in_blocks_of_twenty():
    """Whatever k: so the same seed gives the digits of a table again. In SciPy's
    words.
    """
    model = tiny_model()
    result = mv.evaluate(model, ALL_X, k=30, seed=4, progress=False)
    images, z_dim = slice(0, 8), model.latent_dims[0]
    blocks = [
        draw_eps(model, 4, epoch=0, step=step, images=images, k=k)[0]
        for step, k in ((0, 20), (1, 10))
    ]
    eps = [np.concatenate(blocks, axis=1)]
    assert eps[0].shape == (8, 30, z_dim)
    z = oracle.draw(model.params, ALL_X, eps)
    log_w = oracle.log_p(model.params, ALL_X, z) - oracle.log_q(model.params, ALL_X, z)
    expected = special.logsumexp(log_w, axis=1, b=1 / 30)
    np.testing.assert_allclose(result.log_p, expected, rtol=1e-12)


def test_what_is_not_said_is_as_in_the_paper():
    """5,000 weights of an image, and a threshold of 0.01."""
    parameters = inspect.signature(mv.evaluate).parameters
    assert parameters["k"].default == 5000 and parameters["progress"].default is True
    assert evaluation.ACTIVE == 0.01


def test_the_bar_counts_images(monkeypatch):
    bars = []

    def bar(show, **settings):
        bars.append(tqdm(**settings, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr(evaluation, "progress_bar", bar)
    images = np.tile(ALL_X, (9, 1))  # a block and a half
    mv.evaluate(tiny_model(), images, k=2)
    assert bars[0].n == bars[0].total == 72
    some = {"rows": slice(10, 70), "seed": 0, "partial": None, "progress": True}
    evaluation.measure(tiny_model(), images, 2, **some)
    assert bars[1].n == bars[1].total == 60
    resumed = 50, lambda done, at_once: None
    monkeypatch.setattr(evaluation, "kept_results", lambda *args: resumed)
    mv.evaluate(tiny_model(), images, k=2)
    assert bars[2].n == bars[2].total == 72


def test_memory_does_not_grow_with_k():
    import tracemalloc

    model = mv.VAE(784, rng=np.random.default_rng(0))
    x = np.zeros((2, 784), np.float32)
    peaks = []
    for k in (200, 4000):
        mv.evaluate(model, x, 10, progress=False)
        tracemalloc.start()
        mv.evaluate(model, x, k, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # a few float64 an image and weight, no 784 of them
    assert peaks[1] - peaks[0] < 12 * 8 * 2 * 3800, peaks


def test_nan_parameters_are_refused():
    model = mv.VAE(4, (2,), ((3,),), rng=np.random.default_rng(0))
    model.params["p1.logits.b"][1] = np.nan
    with pytest.raises(ValueError, match="parameter p1.logits.b holds NaN or infinity"):
        mv.evaluate(model, np.zeros((2, 4)), k=3, progress=False)


def test_an_infinite_nll_is_saved_as_such(tmp_path):
    rng = np.random.default_rng(0)
    model = mv.VAE(4, (2,), ((3,),), dtype="float64", rng=rng)
    model.params["p1.logits.b"][:] = np.finfo(float).max
    with np.errstate(over="ignore"):
        result = mv.evaluate(model, np.zeros((3, 4)), k=3, progress=False)
    assert result.nll == np.inf and f"{result.nll:9.3f}".strip() == "inf"
    write_json(tmp_path / "result.json", result.summary())
    summary = read_json(tmp_path / "result.json")
    assert summary["nll"] == "inf" and float(summary["nll"]) == result.nll
