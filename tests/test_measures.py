"""What is measured on a trained model: its units cut out, its encoder fitted anew, and
the experiments around them, in small.
"""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_evaluation import ALL_X, tiny_model

import minivae as mv
from minivae import annealing, cli, evaluation, posterior
from minivae.data import Dataset
from minivae.experiments import measures, refit, truth
from minivae.experiments.measures import unit_variances, without_units
from minivae.experiments.refit import refit_encoder
from minivae.quadrature import midpoint_rule


@pytest.mark.parametrize("hidden", [((4,), (3,)), ((), ())])
def test_a_unit_that_does_nothing_can_be_cut(hidden):
    """Cut units whose p and q are N(0, I) and which no network reads: the log-weights
    under the others' noise are the same, to rounding.
    """
    rng = np.random.default_rng(0)
    model = mv.VAE(3, (3, 2), hidden, dtype=np.float64, rng=rng)
    for array in model.params.values():
        array += 0.1 * rng.standard_normal(array.shape)
    keep = {1: np.array([True, False, True]), 2: np.array([False, True])}
    writers = {1: ("q1", "p2"), 2: ("q2",)}
    readers = {1: ("p1", "q2"), 2: ("p2",)}
    for l, kept in keep.items():
        for name, array in model.params.items():
            network, layer, kind = name.split(".")
            if network in writers[l] and layer in ("mu", "log_sigma"):
                array[..., ~kept] = 0
            if network in readers[l] and kind == "W" and len(array) == len(kept):
                array[~kept] = 0
    eps = model.draw_eps(8, 5, rng)
    smaller = without_units(model, [*keep.values()])
    assert smaller.latent_dims == (2, 1)
    few = [e[..., kept] for e, kept in zip(eps, keep.values())]
    np.testing.assert_allclose(
        smaller.log_weights(ALL_X, few), model.log_weights(ALL_X, eps), rtol=1e-10
    )
    first = "p1.hidden1.W" if hidden[0] else "p1.logits.W"
    model.params[first][1] = 3  # now it does something
    difference = smaller.log_weights(ALL_X, few) - model.log_weights(ALL_X, eps)
    assert abs(difference).max() > 0.1


def test_unit_variances(tmp_path):
    layers = [np.array([1e-4, 1e-4, 0.5]), np.array([0, 20.0])]
    path = tmp_path / "units.png"
    figure = unit_variances({"a": layers}, path)
    assert isinstance(figure, Figure) and path.read_bytes().startswith(b"\x89PNG")
    heights = np.array([patch.get_height() for patch in figure.axes[0].patches])
    assert sorted(heights[heights > 0]) == [1, 1, 1, 2]  # none is left out
    assert unit_variances({"a": layers[:1]}).axes[0].get_ylabel() == "latent units"


@pytest.mark.parametrize("latent, hidden", [((2,), ((4,),)), ((2, 1), ((4,), (3,)))])
def test_refit_leaves_the_decoder_as_it_is(latent, hidden):
    """To the last bit; and the bound that it is fitted by rises."""
    model, images = tiny_model(latent, hidden), np.tile(ALL_X, (20, 1))
    for name, array in model.params.items():
        if name.startswith("q"):
            array += 0.5  # room for a better q
    before = {name: array.copy() for name, array in model.params.items()}
    names = [*mv.ESTIMATORS]
    run = refit_encoder(
        model,
        images,
        "iwae",
        5,
        epochs=15,
        learning_rate=0.03,
        batch=20,
        progress=False,
    )
    assert [*mv.ESTIMATORS] == names
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])  # a copy was trained
        if name.startswith("p"):
            np.testing.assert_array_equal(run.model.params[name], before[name])
        else:
            assert (run.model.params[name] != before[name]).any()
    bounds = [
        mv.evaluate(m, ALL_X, 200, progress=False).bounds[5] for m in (model, run.model)
    ]
    assert bounds[1] > bounds[0] + 0.02


def on_a_coarse_grid(model, x):
    return midpoint_rule(model, x, 20), 1e-3, 20


@pytest.fixture
def small(monkeypatch):
    rng = np.random.default_rng(7)  # not the seed that draws the pixels
    images, labels = rng.random((60, 784), np.float32) ** 4, np.zeros(60, np.uint8)
    data = Dataset(images, labels, images[:20], labels[:20])
    monkeypatch.setattr(truth, "load", lambda name: data)
    for module, name, value in (
        (measures, "MEASURE_WEIGHTS", 10),
        (measures, "DISTRIBUTIONS", 3),
        (refit, "REFIT_EPOCHS", 1),
        (refit, "REFIT_WEIGHTS", 60),
        (annealing, "PILOT", 4),
        (annealing, "SIMULATED", 4),
        (posterior, "COARSE", 20),
        (posterior, "FINE", 20),
        (truth, "log_px_on_a_grid", on_a_coarse_grid),
        (truth, "TRUTH_EPOCHS", 1),
        (truth, "TRUTH_WEIGHTS", (1, 10)),
        (truth, "TRUTH_DISTRIBUTIONS", 3),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(truth, "TRUTH_RUNS", {"VAE": ("elbo", 1), "IWAE": ("iwae", 2)})
    return data


@pytest.fixture
def trained(small, tmp_path):
    """A run on images in a file."""
    path, model = tmp_path / "images.npz", mv.VAE(784, (3,), ((5,),), rng=0)
    np.savez(path, train_images=small.train_images, test_images=small.test_images)
    how = {"epochs": 1, "data": mv.load(path), "progress": False}
    mv.train(model, small.train_images, "iwae", 2, folder=tmp_path / "run", **how)
    return tmp_path / "run"


def command_of(experiment, run, out):
    return ["reproduce", experiment, "--run", str(run), "--out", str(out)]


def prolong(folder):
    """The run of `trained`, by an epoch."""
    source = mv.load_run(folder).config["data"]
    how = {"epochs": 2, "data": source, "progress": False}
    model, images = mv.VAE(784, (3,), ((5,),), rng=0), mv.load(source).train_images
    mv.train(model, images, "iwae", 2, folder=folder, **how)


def test_measures_of_a_run(trained, small, tmp_path, capsys):
    command = command_of("measures", trained, tmp_path / "m")
    # few epochs: every unit's variance is below the threshold or none is
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "ACTIVE", 1e-12)
        assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "m" / "measures.md").read_text() in out
    rows = json.loads((tmp_path / "m" / "measures.json").read_text())
    assert rows["model"] == "iwae, k = 2" and rows["active_units"] == [3]
    assert rows["without_inactive_less_all"] == 0  # there are none
    model = mv.load_run(trained).model
    x = mv.binarize(small.test_images, np.random.default_rng(0))
    assert rows["nll"] == pytest.approx(mv.evaluate(model, x, 10, progress=False).nll)
    assert rows["annealed"]["distributions"] == 3
    assert (tmp_path / "m" / "unit_variances.png").read_bytes().startswith(b"\x89PNG")
    assert not [*(tmp_path / "m").glob("*.npz")]


def test_training_images_are_drawn_from_all(trained, small, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "MEASURE_IMAGES", 40)
    assert cli.main(command_of("measures", trained, tmp_path / "m")) == 0
    rows = json.loads((tmp_path / "m" / "measures.json").read_text())
    assert (rows["images"], rows["training_images"]) == (20, 40)
    model, chosen = mv.load_run(trained).model, np.random.default_rng(0).permutation(60)
    images = small.train_images[chosen[:40]]
    expected = mv.evaluate(model, images, 10, progress=False).nll
    assert rows["training_nll"] == expected
    assert rows["test_less_training"] == rows["nll"] - expected


def test_measures_go_on_where_they_were_stopped(trained, tmp_path, monkeypatch):
    command, out = command_of("measures", trained, tmp_path / "m"), tmp_path / "m"
    with monkeypatch.context() as patch:

        def stop(*args, **how):
            raise KeyboardInterrupt

        patch.setattr(measures, "anneal", stop)
        assert cli.main(command) == 130
    mine = out / "mine.part.npz"
    mine.touch()  # somebody else's
    assert len([*out.glob("*.part.npz")]) == 4
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "draw_weights", None)  # which is not called again
        assert cli.main(command) == 0
    assert (out / "measures.json").exists() and [*out.glob("*.npz")] == [mine]


def test_measures_of_another_run_are_not_written_over(trained, tmp_path, capsys):
    command, out = command_of("measures", trained, tmp_path / "m"), tmp_path / "m"
    assert cli.main(command) == 0 and cli.main(command) == 0
    before = (out / "measures.json").read_bytes()
    prolong(trained)
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "of another run, or of fewer epochs" in capsys.readouterr().err
    assert (out / "measures.json").read_bytes() == before


def test_what_cannot_be_annealed_is_refused_at_the_door(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "draw_weights", None)  # before all that is long
    path = trained / "config.json"
    config = json.loads(path.read_text())
    config["model"]["likelihood"] = "bernoulli-grey"
    path.write_text(json.dumps(config))
    assert cli.main(command_of("measures", trained, tmp_path / "m")) == 2
    assert not (tmp_path / "m" / "test.part.npz").exists()
    assert cli.main(["evaluate", str(trained), "--ais", "3"]) == 2


def test_refit_of_a_run(trained, tmp_path, capsys):
    command = command_of("refit", trained, tmp_path / "r")
    assert cli.main(command) == 0
    rows = json.loads((tmp_path / "r" / "refit.json").read_text())["rows"]
    assert [row["q"] for row in rows] == ["as trained", *refit.REFITS]
    assert rows[0]["difference"] == 0 < rows[1]["difference_se"]
    for row in rows:
        expected = row["nll"] - rows[0]["nll"]
        assert row["difference"] == pytest.approx(expected, abs=1e-9)
    assert (tmp_path / "r" / "refit.md").read_text() in capsys.readouterr().out
    decoder = mv.load_run(trained).model.params["p1.logits.W"]
    again = mv.load_run(tmp_path / "r" / "iwae-50").model.params["p1.logits.W"]
    np.testing.assert_array_equal(decoder, again)
    assert not [*(tmp_path / "r").glob("*.npz")]


def test_refit_of_a_run_that_went_on(trained, tmp_path, capsys, monkeypatch):
    """Its old refits have the decoder of fewer epochs. And what is measured is kept."""
    out = tmp_path / "r"
    command = command_of("refit", trained, out)
    with monkeypatch.context() as patch:

        def stop(*args):
            raise KeyboardInterrupt

        patch.setattr(refit, "refit_table", stop)
        assert cli.main(command) == 130
    assert len([*out.glob("*.part.npz")]) == 3
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "draw_weights", None)
        assert cli.main(command) == 0
    prolong(trained)
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "holds refits of another decoder" in capsys.readouterr().err


@pytest.mark.slow
def test_truth(small, tmp_path, capsys, monkeypatch):
    """It keeps what is measured, and draws the posteriors."""
    monkeypatch.setattr(truth, "PICTURED", 1)
    monkeypatch.setattr(truth, "TRUTH_IMAGES", 3)
    command = ["reproduce", "truth", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    rows = json.loads((tmp_path / "truth.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["VAE", "IWAE"]
    for row in rows:
        assert row["weights"].keys() == {"1", "10"}
        for off in (*row["weights"].values(), row["annealed"]):
            assert np.isfinite(off)
    assert (tmp_path / "posteriors.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(truth, "compare", None)
    assert cli.main(command) == 0


def test_a_run_is_asked_for(tmp_path, capsys):
    for command, words in (
        (["measures"], "measures needs --run, the folder of a run"),
        (["truth", "--run", str(tmp_path)], "--run is for measures and refit only"),
    ):
        assert cli.main(["reproduce", *command, "--out", str(tmp_path)]) == 2
        assert words in capsys.readouterr().err


def test_evaluate_by_annealing(trained, capsys):
    command = ["evaluate", str(trained), "--k", "5", "--images", "4", "--ais", "2"]
    assert cli.main(command) == 0
    assert "annealed NLL" in capsys.readouterr().out
    path = trained / "evaluation_4_images_k_5_ais_2.json"
    summary = json.loads(path.read_text())
    assert summary["ais"]["distributions"] == 2 and summary["ais"]["nll_se"] > 0
    assert not [*trained.glob("*.partial.npz")]


def test_an_evaluation_is_kept_when_annealing_is_stopped(trained, monkeypatch):
    command = ["evaluate", str(trained), "--k", "5", "--images", "4", "--ais", "3"]
    with monkeypatch.context() as patch:

        def stop(*args, **how):
            raise KeyboardInterrupt

        patch.setattr(annealing, "anneal_chains", stop)
        assert cli.main(command) == 130
    monkeypatch.setattr(evaluation, "draw_weights", None)  # that has been measured
    assert cli.main(command) == 0
