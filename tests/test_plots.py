"""The pictures' contents, where a mistake would not show as an error."""

import numpy as np
import pytest

import minivae as mv
from minivae import plots
from minivae.data import Dataset


def pixels(axes):
    return axes.images[0].get_array()


@pytest.fixture(scope="module")
def model():
    return mv.VAE(4, (2,), ((3,),), rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def evaluation(model):
    return mv.evaluate(model, np.eye(4), k=5, progress=False)


def test_a_file_is_written_only_if_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plots.image_grid(np.eye(4)).axes
    assert not list(tmp_path.iterdir())
    figure = plots.image_grid(np.eye(4), tmp_path / "there" / "grid.png")
    assert figure.axes
    assert (tmp_path / "there" / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_image_grid_keeps_the_order():
    images = np.zeros((5, 4))
    images[3] = [1, 0.5, 0.25, 0]  # upright, row by row
    canvas = pixels(plots.image_grid(images, columns=3).axes[0])
    assert canvas.shape == (4, 6)
    np.testing.assert_array_equal(canvas[2:, :2], [[1, 0.5], [0.25, 0]])
    assert canvas.sum() == 1.75


def test_image_grid_of_other_shapes():
    """Two rows of three pixels, and the same of three colours."""
    grey = np.arange(12).reshape(2, 6) / 11
    canvas = pixels(plots.image_grid(grey, image_shape=(2, 3)).axes[0])
    np.testing.assert_array_equal(canvas[:, 3:], grey[1].reshape(2, 3))
    colours = np.arange(18).reshape(1, 18) / 17
    canvas = pixels(plots.image_grid(colours, image_shape=(2, 3, 3)).axes[0])
    np.testing.assert_array_equal(canvas, colours.reshape(2, 3, 3))


def test_image_grid_refuses():
    with pytest.raises(ValueError, match="5 pixels are not square: give image_shape"):
        plots.image_grid(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="has not 6 numbers"):
        plots.image_grid(np.zeros((1, 6)), image_shape=(2, 2))


def test_captions_stand_above_their_images():
    images = np.zeros((5, 4))
    figure = plots.image_grid(images, columns=2, captions=[*"abcde"])
    at = {text.get_text(): text.get_position() for text in figure.texts}
    assert [*at] == [*"abcde"] and at["a"][0] == at["c"][0] == at["e"][0] == 0.25
    for axes, name in zip(figure.axes, "ace"):
        box = axes.get_position()
        assert box.y1 < at[name][1] < box.y1 + box.height


def test_reconstructions_stand_below_their_inputs(model):
    x = np.eye(4)[np.arange(12) % 4]
    means = model.decode(model.encode(x)[0])
    figure = plots.reconstructions(model, x)
    rows = pixels(figure.axes[0]).reshape(4, 2, 10, 2).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(rows[0], x[:10].reshape(10, 2, 2))
    np.testing.assert_array_equal(rows[1], means[:10].reshape(10, 2, 2))
    wanted = np.zeros((10, 2, 2), model.dtype)
    wanted[:2] = means[10:].reshape(2, 2, 2)
    np.testing.assert_array_equal(rows[2, :2], x[10:].reshape(2, 2, 2))
    np.testing.assert_array_equal(rows[3], wanted)
    labels, log_p = np.arange(12), -np.arange(12.0)
    figure = plots.reconstructions(model, x, labels=labels, log_p=log_p)
    assert figure.texts[11].get_text() == "" and figure.texts[1].get_text() == "1 -1"


def test_best_and_worst():
    images = np.linspace(0, 1, 6)[:, None].repeat(4, axis=1)
    log_p = np.array([-3.0, -1, -6, -2, -5, -4])
    figure = plots.best_and_worst(images, log_p, n=2, labels=np.arange(6))
    assert [t.get_text() for t in figure.texts] == ["1: -1", "3: -2", "4: -5", "2: -6"]
    np.testing.assert_allclose(pixels(figure.axes[1])[0, ::2], [0.8, 0.4])


def test_manifold_covers_the_prior(model):
    axes = plots.manifold(model, n=3).axes[0]
    assert pixels(axes).shape == (6, 6)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["-1.0"]
    corner = model.decode(np.array([[-0.9674216, 0.9674216]], model.dtype))
    np.testing.assert_allclose(pixels(axes)[:2, :2].ravel(), corner[0], rtol=1e-5)
    with pytest.raises(ValueError, match="latent_dims"):
        plots.manifold(mv.VAE(4, (3,), ((3,),), rng=np.random.default_rng(0)))


def test_traversal_moves_one_unit_a_row(model):
    """The most active unit first; the others stay at the first image's mean."""
    x = np.eye(4)
    mu = model.encode(x)[0]
    most = int(np.argmax(mu.var(axis=0)))
    axes = plots.traversal(model, x, units=2, n=3).axes[0]
    assert axes.get_yticklabels()[0].get_text().startswith(f"{most}: ")
    z = mu[:1].copy()
    z[0, most] = 2.5
    np.testing.assert_allclose(
        pixels(axes)[:2, 4:].ravel(), model.decode(z)[0], rtol=1e-5
    )


def test_latent_scatter(model):
    x = np.eye(4)
    axes = plots.latent_scatter(model, x, labels=np.array([1, 1, 7, 7])).axes[0]
    dots = np.concatenate([dots.get_offsets() for dots in axes.collections])
    np.testing.assert_allclose(dots, model.encode(x)[0])
    wide = mv.VAE(4, (3,), ((3,),), rng=np.random.default_rng(0))
    axes = plots.latent_scatter(wide, x).axes[0]
    dots = axes.collections[0].get_offsets()
    np.testing.assert_allclose(dots.mean(axis=0), 0, atol=1e-6)
    covariance = np.cov(dots.T)
    largest = np.linalg.eigvalsh(np.cov(wide.encode(x)[0].T))[::-1]
    np.testing.assert_allclose(covariance, np.diag(largest[:2]), atol=1e-7)


def test_aggregated_posterior_of_a_prior():
    """Where q(z|x) is N(0, 1) for every image, the histogram follows the curve."""
    other = mv.VAE(4, (2,), ((3,),), rng=np.random.default_rng(0))
    for name in ("q1.mu", "q1.log_sigma"):
        other.params[f"{name}.W"][...] = other.params[f"{name}.b"][...] = 0
    axes = plots.aggregated_posterior(other, np.eye(4).repeat(20_000, axis=0)).axes[0]
    heights = np.array([bar.get_height() for bar in axes.patches])
    curve = axes.get_lines()[0].get_ydata()
    np.testing.assert_allclose(heights, (curve[1:] + curve[:-1]) / 2, atol=0.02)


def test_curves():
    history = {"epoch": [1, 2], "bound": [-5.0, -4.0], "test_bound": [-6.0, -5.0]}
    other = {"epoch": [1], "bound": [-3.0]}
    lines = plots.learning_curves({"a": history, "b": other}).axes[0].get_lines()
    labels = [line.get_label() for line in lines]
    assert [label.split(" (")[0] for label in labels] == [
        "a, training",
        "a, test",
        "b, training",
    ]
    np.testing.assert_array_equal(lines[1].get_ydata(), history["test_bound"])


def test_curves_by_seconds():
    history = {"epoch": [1, 2], "bound": [-5.0, -4.0], "seconds": [2.0, 3.0]}
    axes = plots.learning_curves({"a": history}, by="second").axes[0]
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [2, 5])


def test_active_units_are_sorted(evaluation):
    axes = plots.active_units({"label": evaluation}).axes[0]
    heights = axes.get_lines()[0].get_ydata()
    np.testing.assert_array_equal(heights, np.sort(evaluation.unit_variances[0])[::-1])
    assert axes.get_yscale() == "log"


def test_units_over_epochs():
    """A panel a run; the threshold, and a colour for each layer in the legend."""
    one = {"epoch": [1, 2], "z1_1": [0.5, 0.9], "z1_2": [0.1, 1e-4]}
    two = {"epoch": [3], "z1_1": [0.5], "z2_1": [0.2]}
    figure = plots.units_over_epochs({"a": one, "b": two})
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("a", "b")
    lines = left.get_lines()
    np.testing.assert_array_equal(lines[1].get_ydata(), one["z1_2"])
    np.testing.assert_array_equal(right.get_lines()[0].get_xdata(), [3])
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.texts]
    assert labels == ["z_1", "threshold 0.01", "z_2"]


def test_a_legend_covers_no_axes(evaluation):
    """And what both axes show stands in it once."""
    figure = plots.normalised_weights({"a": evaluation, "b": evaluation})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["trained: a", "trained: b"]
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_a_notebook_shows_an_evaluation(evaluation):
    page = evaluation._repr_html_()
    assert "effective sample size" in page and page.count("<img") == 3


def test_objects_show_themselves_on_a_screen(model, evaluation):
    x = np.eye(4)
    run = mv.train(model, x, k=2, epochs=1, progress=False)
    data = Dataset(x, np.arange(4), x[:2], None, name="mine")
    for thing, words in (
        (model, "VAE 4-3-(2), bernoulli, float32, on cpu: 56 parameters"),
        (model.params, "q1.hidden1.W         (4, 3)"),
        (run, "Run: iwae reparam, k = 2, 1 epochs, bound"),
        (evaluation, "4 images, k = 5"),
        (data, "Dataset mine: 4 train, 2 test images of 2 x 2, 4 kinds of labels"),
    ):
        text = repr(thing)
        assert words in text and text.count("\n") < 24 and len(text) < 1500
