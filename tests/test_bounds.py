"""The family of bounds: identities, derivatives, exact models."""

import numpy as np
import pytest
from scipy import special, stats

import minivae as mv
from minivae.bounds import leave_one_out
from minivae.check import check_array
from minivae.sumo import draw_stopping_time, stopping_probability, sumo

RNG = np.random.default_rng(0)
LOG_W = 3 * RNG.standard_normal((5, 6))
BOUNDS = mv.BOUNDS


def assert_same(got, want, rtol=1e-12):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


def test_identities():
    elbo, iwae = BOUNDS["elbo"](LOG_W), BOUNDS["iwae"](LOG_W)
    assert_same(BOUNDS["miwae"](LOG_W, m=1), iwae)
    assert_same(BOUNDS["miwae"](LOG_W, m=6), elbo)
    assert_same(BOUNDS["ciwae"](LOG_W, beta=0), iwae)
    assert_same(BOUNDS["ciwae"](LOG_W, beta=1), elbo)
    assert_same(BOUNDS["vr"](LOG_W, alpha=0), iwae)
    assert_same(BOUNDS["vr"](LOG_W, alpha=1), elbo)
    for alpha in (1 - 1e-10, 1 + 1e-10):
        near = BOUNDS["vr"](LOG_W, alpha=alpha)
        for a, b in zip(near, elbo):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
    one = LOG_W[:, :1]
    for name, options in {"miwae": {"m": 1}, "ciwae": {"beta": 0.3}}.items():
        assert_same(BOUNDS[name](one, **options), BOUNDS["elbo"](one))


def test_a_part_of_zero_is_no_part():
    """Also where it is -inf, of which no part would be NaN."""
    dead = np.full((1, 3), -np.inf)
    with np.errstate(all="ignore"):
        for beta, other in ((0, "iwae"), (1, "elbo")):
            assert_same(BOUNDS["ciwae"](dead, beta=beta), BOUNDS[other](dead))


def test_miwae_is_the_mean_over_groups():
    """m = 2 groups of 3: a softmax over the wrong axis is seen, and groups across."""
    value, c, _ = BOUNDS["miwae"](LOG_W, m=2)
    groups = LOG_W.reshape(5, 2, 3)
    expected = (special.logsumexp(groups, axis=2) - np.log(3)).mean(axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(
        c, special.softmax(groups, axis=2).reshape(5, 6) / 2, rtol=1e-12
    )


@pytest.mark.parametrize("alpha", [-2, -0.5, 0.3, 0.999999, 1.5, 3])
@pytest.mark.parametrize("scale", [1, 1000])
def test_vr_is_a_power_mean(alpha, scale):
    """Of weights far apart, too: exp of the others' distance must not overflow."""
    log_w = scale * LOG_W
    value, _, _ = BOUNDS["vr"](log_w, alpha=alpha)
    power = special.logsumexp((1 - alpha) * log_w, axis=1) - np.log(6)
    np.testing.assert_allclose(value, power / (1 - alpha), rtol=1e-8)


def test_jackknife_against_a_loop():
    value, c, dc = BOUNDS["jackknife"](LOG_W)
    K = LOG_W.shape[1]
    w = np.exp(LOG_W)
    for b in range(len(LOG_W)):
        rest = [np.log(np.delete(w[b], i).mean()) for i in range(K)]
        expected = K * np.log(w[b].mean()) - (K - 1) / K * np.sum(rest)
        assert value[b] == pytest.approx(expected, rel=1e-10)
        for k in range(K):
            w_norm = w[b, k] / w[b].sum()
            r = np.array([w[b, k] / (w[b].sum() - w[b, i]) for i in range(K) if i != k])
            a = (K - 1) / K
            assert c[b, k] == pytest.approx(K * w_norm - a * r.sum(), rel=1e-8)
            second = K * w_norm * (1 - w_norm) - a * (r * (1 - r)).sum()
            assert dc[b, k] == pytest.approx(second, rel=1e-7, abs=1e-10)


def test_leave_one_out_where_subtraction_fails():
    a = np.array([[0.0, -800.0, -900.0]])
    np.testing.assert_allclose(leave_one_out(a), [[-800, 0, 0]], rtol=1e-14)
    value, c, dc = BOUNDS["jackknife"](a)
    assert np.isfinite([*value, *c.ravel(), *dc.ravel()]).all()


@pytest.mark.parametrize("K", [2, 6])
def test_jackknife_where_one_weight_is_not_zero(K):
    """Without that sample the bound is -inf, and there is no bias to be estimated: the
    row is iwae's. The row beside it is what it is alone.
    """
    log_w = LOG_W[:3, :K].copy()
    log_w[0, 1:] = log_w[2, :-1] = -np.inf
    value, c, dc = BOUNDS["jackknife"](log_w)
    iwae, alone = BOUNDS["iwae"](log_w), BOUNDS["jackknife"](log_w[1:2])
    for got, of_iwae, of_row in zip((value, c, dc), iwae, alone):
        assert np.isfinite(got).all()
        np.testing.assert_array_equal(got[[0, 2]], of_iwae[[0, 2]])
        np.testing.assert_array_equal(got[1:2], of_row)
    np.testing.assert_allclose(value[0], log_w[0, 0] - np.log(K), rtol=1e-12)
    np.testing.assert_allclose(c.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(c[0], np.eye(K)[0])
    assert (value != iwae[0]).tolist() == [False, True, False]


def test_jackknife_of_some_weights_of_zero():
    """While two others are left, it is the limit of small weights."""
    log_w, small = LOG_W.copy(), LOG_W.copy()
    log_w[0, 2] = log_w[1, 2:] = -np.inf
    small[0, 2] = small[1, 2:] = -800
    assert_same(BOUNDS["jackknife"](log_w), BOUNDS["jackknife"](small))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("spread", [0.1, 3, 300])
def test_c_and_dc_against_finite_differences(bound, spread):
    """Also where one weight has it all. dc is the derivative of each c_k by its own."""
    rng = np.random.default_rng(1)
    log_w, cotangent = spread * rng.standard_normal((4, 6)), rng.standard_normal(4)

    def f(log_w):
        return BOUNDS[bound](log_w, **BOUNDS[bound].examples())

    c = cotangent[:, None] * f(log_w)[1]
    check = check_array("c", lambda: cotangent @ f(log_w)[0], log_w, c, rng)
    assert check.error < 1e-8, check
    for k in range(6):
        column = log_w[:, k].copy()
        dc = cotangent * f(log_w)[2][:, k]

        def moved(column=column, k=k):
            at = log_w.copy()
            at[:, k] = column
            return cotangent @ f(at)[1][:, k]

        check = check_array("dc", moved, column, dc, rng)
        size = np.linalg.norm(dc)
        assert abs(check.analytic - check.numeric) < 1e-8 * size + 1e-10, check


def test_options_are_refused():
    with pytest.raises(ValueError, match="m must be a whole number that divides K = 6"):
        BOUNDS["miwae"](LOG_W, m=4)
    with pytest.raises(ValueError, match="m must be a whole number that divides"):
        BOUNDS["miwae"](LOG_W, m=0)
    for m in (2.0, True):
        with pytest.raises(TypeError, match="m must be a whole number; got"):
            BOUNDS["miwae"](LOG_W, m=m)
    for beta in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
            BOUNDS["ciwae"](LOG_W, beta=beta)
    for alpha in (np.inf, np.nan):
        with pytest.raises(ValueError, match="alpha must be finite"):
            BOUNDS["vr"](LOG_W, alpha=alpha)
    with pytest.raises(ValueError, match="jackknife needs K >= 2; got K = 1"):
        BOUNDS["jackknife"](LOG_W[:, :1])
    with pytest.raises(ValueError, match="vimco needs K >= 2"):
        mv.ESTIMATORS["vimco"](BOUNDS["iwae"], LOG_W[:, :1])


# Exactly solvable: linear networks and a Gaussian likelihood, one and two layers

A, B, S1, S2, X = 0.9, 1.4, 0.7, 0.5, 1.1
LOG_PX_1 = stats.norm.logpdf(X, 0, np.sqrt(B**2 + S2**2))  # z_1 ~ N(0, 1)
VAR_1 = A**2 + S1**2  # of z_1, where z_2 ~ N(0, 1) and z_1 | z_2 ~ N(A z_2, S1^2)
LOG_PX_2 = stats.norm.logpdf(X, 0, np.sqrt(B**2 * VAR_1 + S2**2))


def linear_model(layers, off=0.0):
    """q is the posterior, but for ``off`` in its first mean; x_dim = 1."""
    dims = ((1,),) if layers == 1 else ((1, 1),)
    model = mv.VAE(
        1,
        *dims,
        ((),) * layers,
        likelihood="gaussian",
        x_sigma=S2,
        dtype=np.float64,
        rng=np.random.default_rng(0),
    )
    for array in model.params.values():
        array[...] = 0
    p = model.params
    p["p1.mu.W"][...] = B
    variance = VAR_1 if layers == 2 else 1.0
    posterior = 1 / (1 / variance + B**2 / S2**2)
    p["q1.mu.W"][...] = posterior * B / S2**2
    p["q1.mu.b"][...] = off
    p["q1.log_sigma.b"][...] = np.log(posterior) / 2
    if layers == 2:
        p["p2.mu.W"][...] = A
        p["p2.log_sigma.b"][...] = np.log(S1)
        p["q2.mu.W"][...] = A / (A**2 + S1**2)
        p["q2.log_sigma.b"][...] = -np.log(1 + A**2 / S1**2) / 2
    return model


@pytest.mark.parametrize("layers, log_px", [(1, LOG_PX_1), (2, LOG_PX_2)])
def test_every_weight_is_p_of_x_at_the_posterior(layers, log_px):
    model, x = linear_model(layers), np.full((3, 1), X)
    log_w = model.log_weights(x, model.draw_eps(3, 7, np.random.default_rng(0)))
    np.testing.assert_allclose(log_w, log_px, rtol=1e-12)


@pytest.mark.parametrize("layers, log_px", [(1, LOG_PX_1), (2, LOG_PX_2)])
def test_jackknife_has_less_bias_than_iwae(layers, log_px):
    model, x = linear_model(layers, off=0.35), np.full((150_000, 1), X)
    log_w = model.log_weights(x, model.draw_eps(len(x), 5, np.random.default_rng(0)))
    bias = {
        name: BOUNDS[name](log_w)[0].mean() - log_px
        for name in ("elbo", "iwae", "jackknife")
    }
    assert bias["elbo"] < bias["iwae"] < -0.01
    assert abs(bias["jackknife"]) < abs(bias["iwae"]) / 2


def test_vr_orders_the_family():
    model, x = linear_model(1, off=0.35), np.full((20_000, 1), X)
    log_w = model.log_weights(x, model.draw_eps(len(x), 5, np.random.default_rng(0)))
    values = [BOUNDS["vr"](log_w, alpha=a)[0].mean() for a in (1, 0.5, 0, -1, -5)]
    assert values == sorted(values)


# SUMO


def test_sumo_summed_over_its_stopping_time_is_the_longest_bound():
    log_w = 2 * np.random.default_rng(0).standard_normal((3, 120))
    reach = stopping_probability(np.arange(1, 121))
    total = 0
    for t in range(1, 120):  # T = t, and T >= 119 for the last
        p = reach[t - 1] - reach[t] if t < 119 else reach[t - 1]
        total = total + p * sumo(log_w, np.full(3, t))
    longest = special.logsumexp(log_w, axis=1) - np.log(120)
    np.testing.assert_allclose(total, longest, rtol=1e-12)


def test_stopping_time_is_distributed_as_it_says():
    T = draw_stopping_time(200_000, np.random.default_rng(0))
    for k in (1, 2, 5, 20, 80, 90):
        p = float(stopping_probability(k))
        assert abs((T >= k).mean() - p) < 4.5 * np.sqrt(p / len(T))


def test_sumo_refuses():
    with pytest.raises(ValueError, match="from 1 to K - 1 = 5"):
        sumo(LOG_W, np.full(5, 6))
    with pytest.raises(ValueError, match="from 1 to K - 1"):
        sumo(LOG_W, np.zeros(5, int))
