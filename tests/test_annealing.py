"""Annealed importance sampling: its gradient, its transitions, and its estimates
against models whose log p(x) is known.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from scipy import special, stats
from test_evaluation import ALL_X, exact_log_px, tiny_model

import minivae as mv
from minivae import annealing, hamiltonian
from minivae.annealing import (
    CHAINS,
    anneal,
    anneal_chains,
    bracket,
    log_mean,
    noise_of,
    powers,
    simulate,
    tune,
    weigh_chains,
)
from minivae.experiments import oracle
from minivae.experiments.snr import toy_model
from minivae.gradcheck import small_model
from minivae.hamiltonian import leapfrogs, transition

DEPTHS = {
    1: ((3,), ((6, 5),)),
    2: ((3, 2), ((5,), (4, 3))),
    3: ((3, 2, 2), ((4,), (4,), ())),
}


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_slope(depth, kernels, likelihood):
    """d log w / d eps (eq. 28.2) by finite differences, random direction, cotangent."""
    rng = np.random.default_rng(depth)
    latent, hidden = DEPTHS[depth]
    how = {"dtype": np.float64, "kernels": kernels, "rng": rng}
    model = mv.VAE(6, latent, hidden, likelihood, **how)
    for array in model.params.values():
        array += 0.1 * rng.standard_normal(array.shape)
    x = (rng.random((4, 6)) < 0.5).astype(float)
    q1 = model.encode(x)
    eps = rng.standard_normal((4, 5, sum(latent)))
    log_w, slope = weigh_chains(model, x, q1, eps)
    by_layer = np.split(eps, np.cumsum(latent)[:-1], axis=2)
    np.testing.assert_allclose(log_w, model.log_weights(x, by_layer), rtol=1e-12)
    direction, cotangent = rng.standard_normal(eps.shape), rng.standard_normal((4, 5))

    def f(t):
        return (cotangent * weigh_chains(model, x, q1, eps + t * direction)[0]).sum()

    h = 1e-5
    numeric = (f(h) - f(-h)) / (2 * h)
    analytic = (cotangent[..., None] * slope * direction).sum()
    assert analytic == pytest.approx(numeric, rel=1e-7)


# The transition: w = cosh(2 eps)^-3, whose N(eps; 0, 1) w^beta is no Gaussian


def weigh(eps):
    return -3 * np.log(np.cosh(2 * eps[..., 0])), -6 * np.tanh(2 * eps)


def exact_draws(beta, n, rng):
    """By the inverse of the distribution function on a fine grid."""
    grid = np.linspace(-6, 6, 20_001)
    density = np.exp(-(grid**2) / 2 + beta * weigh(grid[:, None])[0])
    cumulated = np.cumsum(density)
    return np.interp(rng.random(n), cumulated / cumulated[-1], grid), (
        (density * grid**2).sum() / density.sum()
    )


def moved(uniform_of, beta=0.7, step=0.8, n=200_000):
    """Mean square after a transition from exact draws, in standard errors from the
    truth, and the part that was accepted (eq. 28.7).
    """
    rng = np.random.default_rng(0)
    eps, square = exact_draws(beta, n, rng)
    eps = eps.reshape(1, n, 1)
    (eps, log_w, slope), accepted = transition(
        weigh,
        (eps, *weigh(eps)),
        beta=beta,
        step=step,
        momentum=rng.standard_normal(eps.shape),
        uniform=uniform_of(rng, (1, n)),
    )
    np.testing.assert_array_equal(log_w, weigh(eps)[0])
    np.testing.assert_array_equal(slope, weigh(eps)[1])
    off = eps**2 - square
    return off.mean() / (off.std() / np.sqrt(n)), accepted.mean()


def test_a_transition_leaves_its_density_as_it_is():
    error, accepted = moved(lambda rng, shape: rng.random(shape))
    assert abs(error) < 4
    assert 0.3 < accepted < 0.95  # large steps: there is something to correct


def test_without_the_accept_reject_it_does_not():
    """A uniform number of 0 accepts everything."""
    error, accepted = moved(lambda rng, shape: np.zeros(shape))
    assert accepted > 0.99 and abs(error) > 20


def test_leapfrogs_go_back():
    """With the momentum turned round they retrace their way (eq. 28.6), and what they
    gain in energy shrinks with the third power of the step (eq. 28.5).
    """
    rng = np.random.default_rng(0)
    eps, momentum = rng.standard_normal((2, 1, 50, 1))
    start = eps, *weigh(eps)
    gained = []
    for step in (0.04, 0.02):
        there, turned = leapfrogs(weigh, start, 0.5, step, momentum)
        back, _ = leapfrogs(weigh, there, 0.5, step, -turned)
        np.testing.assert_allclose(back[0], eps, atol=1e-12)
        energies = [
            hamiltonian.energy(position, 0.5, r)
            for position, r in ((start, momentum), (there, turned))
        ]
        gained.append(abs(energies[1] - energies[0]).mean())
    assert 7 < gained[0] / gained[1] < 9


def test_a_chain_that_flies_off_stays_where_it_was():
    def nowhere(eps):
        return np.full(eps.shape[:2], np.nan), np.full_like(eps, np.nan)

    eps = np.ones((1, 3, 2))
    position, accepted = transition(
        nowhere,
        (eps, np.zeros((1, 3)), np.zeros_like(eps)),
        beta=1.0,
        step=0.1,
        momentum=eps,
        uniform=np.zeros((1, 3)),
    )
    assert not accepted.any() and (position[0] == eps).all()


# Estimates against the truth


def test_the_weights_are_unbiased_up_and_down():
    """E w = p(x) going up, E 1/w = 1/p(x) going down (eqs. 28.4 and 28.9), at a few
    distributions, where one power too many or too few would show.
    """
    model = tiny_model()
    model.params["q1.mu.b"] += 0.7  # a q that is off
    x, z = simulate(model, 2000, np.random.default_rng(1))
    exact, schedule = exact_log_px(model, x)[:, None], (powers(3), tune(model, 0))
    up, _ = anneal_chains(model, x, schedule, seed=0)
    down, _ = anneal_chains(model, x, schedule, seed=0, z=z)
    assert (exact - up).std() > 0.05  # there is something to average
    for ratio in (np.exp(up - exact), np.exp(exact - down)):
        ratio = ratio.mean(axis=1)  # an image's chains go down from one z
        error = ratio.std(ddof=1) / np.sqrt(len(ratio))
        assert ratio.mean() == pytest.approx(1, abs=4 * error) and error < 0.02


def test_linear_gaussian():
    """Against log p(x) in closed form, where importance sampling fails."""
    model, x = toy_model(np.random.default_rng(3), x_dim=4)
    W, b = model.params["p1.mu.W"], model.params["p1.mu.b"]
    exact = stats.multivariate_normal(b, np.eye(4) + W.T @ W).logpdf(x[0])
    model.params["q1.mu.b"] += 1.5  # two sigmas off in each unit
    x = np.tile(x, (20, 1))
    results = {n: anneal(model, x, n, progress=False) for n in (1, 100)}
    assert exact + results[1].nll > 1
    annealed = results[100]
    assert -annealed.nll == pytest.approx(exact, abs=4 * annealed.nll_se + 0.01)
    assert annealed.nll_se < 0.05
    assert annealed.gap < 0.2 < 2 < results[1].gap


def test_two_layers_sum_to_one():
    """Over all x. (Of a slope that lacks a term the sum would know nothing.)"""
    model = tiny_model((2, 1), ((4,), (3,)))
    result = anneal(model, np.tile(ALL_X, (20, 1)), 20, progress=False)
    assert np.exp(result.log_px).sum() / 20 == pytest.approx(1, abs=0.01)
    assert result.acceptance > 0.7


def test_bracket():
    model = tiny_model()
    model.params["q1.mu.b"] += 1.5
    x, z = simulate(model, 200, np.random.default_rng(0))
    exact, sizes, gaps = exact_log_px(model, x), tune(model, 0), []
    for n in (2, 30):
        lower, upper = bracket(model, x, z, (powers(n), sizes), seed=0)
        for above in (exact - lower, upper - exact):
            assert above.mean() > -4 * above.std() / np.sqrt(200)
        gaps.append((upper - lower).mean())
    assert gaps[1] < 0.05 < 0.2 < gaps[0]


def test_one_distribution_is_importance_sampling():
    """By the same draws as `evaluate` with as many weights (eq. 28.4)."""
    model, grey = tiny_model(), np.random.default_rng(0).random((7, 3))
    seeds = {"binarize_seed": 1, "seed": 2, "progress": False}
    result, same = (
        anneal(model, grey, 1, **seeds),
        mv.evaluate(model, grey, CHAINS, **seeds),
    )
    assert result.nll == pytest.approx(same.nll, rel=1e-12)
    assert result.nll_se == pytest.approx(same.nll_se, rel=1e-12)


def test_the_same_whatever_the_blocks(monkeypatch):
    """An image's noise is counted by its number: in whichever block it is."""
    model, grey = tiny_model(), np.random.default_rng(0).random((7, 3))
    whole = anneal(model, grey, 5, progress=False)
    monkeypatch.setattr(annealing, "CHUNK_ROWS", 2 * CHAINS)
    blocks = anneal(model, grey, 5, progress=False)
    np.testing.assert_allclose(blocks.log_px, whole.log_px, rtol=1e-9)
    other = anneal(model, grey, 5, seed=1, progress=False)
    assert (other.log_px != whole.log_px).all()


def test_tune_finds_the_acceptance():
    model = tiny_model()
    power, sizes = tune(model, 0)
    assert power[-1] == 1 and len(power) == len(sizes)
    result = anneal(model, np.tile(ALL_X, (5, 1)), 40, progress=False)
    assert result.acceptance == pytest.approx(annealing.ACCEPTANCE, abs=0.1)  # eq. 28.8


def test_the_chains_that_tune_have_noise_of_their_own():
    """A step's size may not depend on the chains that it moves."""
    model, images = tiny_model((2,), ((4,),)), slice(0, len(ALL_X))
    up, tuning = (
        annealing.Chains.begin(model, ALL_X, images, seed=0, stage=stage).positions[0]
        for stage in (annealing.UP, annealing.TUNING)
    )
    assert not np.isin(up[0], tuning[0]).any()


def test_simulate_draws_from_the_model():
    model = tiny_model()
    x, z = simulate(model, 20_000, np.random.default_rng(0))
    counts = (x @ [4, 2, 1]).astype(int)
    expected = 20_000 * np.exp(exact_log_px(model, ALL_X))
    assert stats.chisquare(np.bincount(counts, minlength=8), expected).pvalue > 1e-3
    for z_l in z:
        assert stats.kstest(z_l.ravel(), "norm").pvalue > 1e-3


def test_simulate_two_layers_of_real_numbers():
    """E log p(x, z) under its own draws is that of the oracle's draws."""
    rng = np.random.default_rng(0)
    model = mv.VAE(2, (2, 1), ((3,), (2,)), "gaussian", "float64", rng=rng)
    x, (z1, z2) = simulate(model, 50_000, rng)
    for below, above, name in ((z1, z2, "p2"), (x, z1, "p1")):
        heads = oracle.network(model.params, name, above)
        unit = (below - heads["mu"]) / np.exp(heads["log_sigma"])
        assert stats.kstest(unit.ravel(), "norm").pvalue > 1e-3


def test_noise_of_draws_the_same_z():
    model, x, _ = small_model("numpy", (3, 2), ((5,), (4,)))
    z = [np.random.default_rng(0).standard_normal((len(x), n)) for n in (3, 2)]
    eps = noise_of(model, model.encode(x), z)
    for drawn, z_l in zip(oracle.draw(model.params, x, eps), z):
        assert drawn.shape == (len(x), CHAINS, z_l.shape[1])
        np.testing.assert_allclose(drawn, np.repeat(z_l[:, None], CHAINS, axis=1))


def test_log_mean():
    log_w = np.random.default_rng(0).standard_normal((3, 5)) * 900
    expected = special.logsumexp(log_w, axis=1) - np.log(5)
    np.testing.assert_allclose(log_mean(log_w), expected)


def test_refused():
    model = tiny_model()
    with pytest.raises(ValueError, match="distributions must be at least 1; got 0"):
        anneal(model, ALL_X, 0)
    model.likelihood = "bernoulli-grey"
    with pytest.raises(ValueError, match="'bernoulli-grey' is no density"):
        anneal(model, ALL_X, 3)


def test_stopped_it_goes_on(tmp_path, monkeypatch):
    """With the images that it had not done; to the same figures."""
    model, schedule, begun = (
        tiny_model(),
        (annealing.powers(3), ([0, 1], [0.3, 0.3])),
        [],
    )
    whole = anneal_chains(model, ALL_X, schedule, seed=0)
    begin, partial = annealing.Chains.begin, tmp_path / "chains.npz"

    def noted(model, x, images, *args):
        begun.append(images.start)
        return begin(model, x, images, *args)

    @contextmanager
    def pressed_at_the_third():
        yield lambda: len(begun) == 3

    monkeypatch.setattr(annealing.Chains, "begin", noted)
    monkeypatch.setattr(annealing, "CHUNK_ROWS", annealing.CHAINS)  # an image at a time
    monkeypatch.setattr(annealing, "count", lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(annealing, "interruptible", pressed_at_the_third)
        with pytest.raises(
            KeyboardInterrupt, match="after 2 of 8 images; they are kept"
        ):
            anneal_chains(model, ALL_X, schedule, seed=0, partial=partial)
    log_w, accepted = anneal_chains(model, ALL_X, schedule, seed=0, partial=partial)
    assert begun == [0, 1, 2, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(log_w, whole[0], rtol=1e-12)
    assert accepted == pytest.approx(whole[1])
    anneal_chains(model, ALL_X, schedule, seed=1, partial=partial)
    assert begun[9:] == [*range(8)]  # another seed's are no use


def test_interrupted(monkeypatch):
    @contextmanager
    def pressed():
        yield lambda: True

    monkeypatch.setattr(annealing, "interruptible", pressed)
    with pytest.raises(KeyboardInterrupt, match="0 of 8 images; nothing is kept"):
        anneal(tiny_model(), ALL_X, 3, progress=False)
