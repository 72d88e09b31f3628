"""log p(x) on a grid, against sums over all x and SciPy's quadrature."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import special
from test_evaluation import ALL_X, tiny_model

from minivae import quadrature
from minivae.experiments import oracle
from minivae.posterior import posteriors
from minivae.quadrature import log_joint, log_px_on_a_grid


def two_units():
    return tiny_model((2,), ((4,),))


def test_probabilities_sum_to_one():
    """p(x) over all x (eq. 28.1)."""
    log_px, change, points = log_px_on_a_grid(two_units(), ALL_X)
    assert np.exp(log_px).sum() == pytest.approx(1, abs=1e-7)
    assert change < quadrature.TOLERANCE and points >= 2 * quadrature.POINTS


def test_against_gauss_hermite():
    """By another rule, and SciPy's formulas."""
    model = two_units()
    nodes, weights = special.roots_hermitenorm(60)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=2).reshape(-1, 2)
    log_joint_rows = oracle.log_p(model.params, ALL_X, [np.tile(z, (8, 1, 1))])
    log_prior = -(z**2).sum(axis=1) / 2 - np.log(2 * np.pi)
    log_weights = np.log(np.outer(weights, weights).ravel() / (2 * np.pi))
    expected = special.logsumexp(log_joint_rows - log_prior + log_weights, axis=1)
    log_px, _, _ = log_px_on_a_grid(model, ALL_X)
    np.testing.assert_allclose(log_px, expected, atol=1e-7)
    values = np.linspace(-1, 1, 3)
    z = np.stack(np.meshgrid(values, values, indexing="ij"), axis=2).reshape(-1, 2)
    expected = oracle.log_p(model.params, ALL_X, [np.tile(z, (8, 1, 1))])
    got = log_joint(model, ALL_X, values, values).reshape(8, 9)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_posterior_narrower_than_a_cell(monkeypatch):
    monkeypatch.setattr(quadrature, "MOST_POINTS", 300)
    model = two_units()
    model.params["p1.hidden1.W"][...] *= 3000
    with pytest.raises(ValueError, match="doubling a grid to 300 points"):
        log_px_on_a_grid(model, ALL_X)


@pytest.mark.parametrize("model", [tiny_model(), tiny_model((2, 1), ((4,), (3,)))])
def test_other_models_are_refused(model):
    with pytest.raises(ValueError, match=r"a grid is for latent_dims \(2,\)"):
        log_px_on_a_grid(model, ALL_X)


def test_posteriors(tmp_path):
    """The pixels are p(z|x) and q(z|x), each up to its maximum, upright."""
    model, x = two_units(), ALL_X[1:3]
    figure = posteriors({"a": model, "b": model}, x, tmp_path / "a" / "posteriors.png")
    assert isinstance(figure, Figure)
    assert (tmp_path / "a" / "posteriors.png").read_bytes().startswith(b"\x89PNG")
    panels = figure.axes
    assert len(panels) == 2 * 2 * len(x) and panels[0].get_ylabel() == "a"
    (image,) = panels[0].images
    left, right, bottom, top = image.get_extent()
    density = image.get_array()
    assert density.max() == pytest.approx(1)
    first, second = (
        np.linspace(*ends, len(density)) for ends in ((left, right), (bottom, top))
    )
    log_p = log_joint(model, x[:1], first, second)[0]
    np.testing.assert_allclose(density, np.exp(log_p - log_p.max()).T, atol=1e-9)
    mu, log_sigma = model.encode(x[:1])
    q = panels[1].images[0].get_array()
    row, column = np.unravel_index(q.argmax(), q.shape)
    cell = (right - left) / len(q)
    np.testing.assert_allclose([first[column], second[row]], mu[0], atol=cell)
    inside = (density > 0.5).mean()
    assert 0.01 < inside < 0.9  # neither a point in the window nor all of it
    # no mass is left out: the window holds p(x)
    area = (first[1] - first[0]) * (second[1] - second[0])
    log_px, _, _ = log_px_on_a_grid(model, x[:1])
    total = special.logsumexp(log_p) + np.log(area)
    assert total == pytest.approx(log_px[0], abs=0.02)
