"""The pictures' contents, where a mistake would not show as an error."""

import numpy as np
import pytest

import minivae as mv
from minivae import plots


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, instead of files."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    return figures


def test_image_grid_keeps_the_order(drawn):
    images = np.zeros((5, 4))
    images[3] = [1, 0.5, 0.25, 0]  # upright, row by row
    plots.image_grid(images, "path", columns=3)
    canvas = drawn[0].axes[0].images[0].get_array()
    assert canvas.shape == (4, 6)
    np.testing.assert_array_equal(canvas[2:, :2], [[1, 0.5], [0.25, 0]])
    assert canvas.sum() == 1.75


def test_image_grid_refuses():
    with pytest.raises(ValueError, match="5 pixels are not square"):
        plots.image_grid(np.zeros((1, 5)), "path")


def test_reconstructions_stand_below_their_inputs(drawn, monkeypatch):
    model = mv.VAE(4, (2,), ((3,),), rng=np.random.default_rng(0))
    x = np.eye(4)[np.arange(12) % 4]
    grids = []
    monkeypatch.setattr(plots, "image_grid", lambda images, path: grids.append(images))
    plots.reconstructions(model, x, "path")
    means = model.decode(model.encode(x)[0])
    np.testing.assert_array_equal(
        grids[0], np.concatenate([x[:10], means[:10], x[10:], means[10:]])
    )


def test_manifold_covers_the_prior(drawn):
    model = mv.VAE(4, (2,), ((3,),), rng=np.random.default_rng(0))
    plots.manifold(model, "path", n=3)
    assert drawn[0].axes[0].images[0].get_array().shape == (6, 6)
    with pytest.raises(ValueError, match="latent_dims"):
        plots.manifold(mv.VAE(4, (3,), ((3,),), rng=np.random.default_rng(0)), "path")


def test_curves(drawn):
    history = {"epoch": [1, 2], "bound": [-5.0, -4.0], "test_bound": [-6.0, -5.0]}
    plots.learning_curves({"a": history, "b": {"epoch": [1], "bound": [-3.0]}}, "path")
    lines = drawn[0].axes[0].get_lines()
    labels = [line.get_label() for line in lines]
    assert [label.split(" (")[0] for label in labels] == [
        "a, training",
        "a, test",
        "b, training",
    ]
    np.testing.assert_array_equal(lines[1].get_ydata(), history["test_bound"])


def test_active_units_are_sorted(drawn):
    model = mv.VAE(4, (3,), ((2,),), rng=np.random.default_rng(0))
    evaluation = mv.evaluate(model, np.eye(4), k=5, progress=False)
    plots.active_units({"label": evaluation}, "path")
    heights = drawn[0].axes[0].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(heights, np.sort(evaluation.unit_variances[0])[::-1])
    assert drawn[0].axes[0].get_yscale() == "log"
