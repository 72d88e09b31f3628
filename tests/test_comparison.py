"""Evaluations that are kept, and runs side by side."""

import re

import numpy as np
import pytest

import minivae as mv
from minivae import cli, comparison, plots
from minivae.commands import evaluate

RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 9))


def model(seed=0, latent_dims=(2,), hidden_dims=((3,),), **settings):
    rng = np.random.default_rng(seed)
    return mv.VAE(9, latent_dims, hidden_dims, rng=rng, **settings)


def evaluation(seed=0, images=IMAGES, k=20, **settings):
    return mv.evaluate(model(seed, **settings), images, k, progress=False)


# Evaluations and their files


def assert_equal(a, b):
    for name, value in vars(a).items():
        np.testing.assert_equal(getattr(b, name), value, name)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"latent_dims": (3, 2), "hidden_dims": ((4,), ())},
        {"images": IMAGES[:1], "k": 1},
    ],
)
def test_an_evaluation_is_loaded_as_it_was(settings, tmp_path):
    result, path = evaluation(**settings), tmp_path / "evaluation.npz"
    result.save(path)
    loaded = mv.Evaluation.load(path)
    assert_equal(result, loaded)
    assert loaded.summary() == result.summary()
    # and every plot takes it
    plots.draw_evaluations({"it": loaded, "again": result}, tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_log_p_is_of_each_image():
    result = evaluation()
    assert result.log_p.shape == (40,) and result.nll == -result.log_p.mean()
    assert result.bounds[20] == pytest.approx(result.log_p.mean())
    alone = evaluation(images=np.repeat(IMAGES[3:4] > 0.5, 2, axis=0))
    assert alone.log_p.std() < 0.5  # the same image twice, by other weights


def test_digests():
    a, b, c = evaluation(0), evaluation(1), evaluation(0, images=IMAGES[:20])
    assert a.x_digest == b.x_digest != c.x_digest
    assert a.params_digest == c.params_digest != b.params_digest
    other = mv.evaluate(model(), IMAGES, 20, binarize_seed=1, progress=False)
    assert other.x_digest != a.x_digest
    double = evaluation(dtype=np.float64)
    assert double.x_digest == a.x_digest


@pytest.mark.parametrize(
    "name, value",
    [
        ("log_p", np.zeros(3)),
        ("log_p", np.zeros(40, int)),
        ("sorted_weights", np.zeros((20, 1))),
        ("nll", np.zeros(2)),
        ("active_units", np.array([1, 1])),
        ("x_digest", np.array(["a", "b"])),
        ("k", None),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(name, value, tmp_path):
    path = tmp_path / "evaluation.npz"
    evaluation().save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays.pop(name)
    if value is not None:
        arrays[name] = value
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"{path}: not an evaluation"):
        mv.Evaluation.load(path)


def test_bound_sizes():
    result = mv.evaluate(model(), IMAGES, 20, bound_sizes=(3, 10, 20, 400))
    usual = evaluation()
    assert list(result.bounds) == [3, 10, 20] and list(usual.bounds) == [1, 5, 20]
    assert result.nll == usual.nll
    assert usual.bounds[1] < result.bounds[3] < result.bounds[10] < result.bounds[20]
    assert list(mv.evaluate(model(), IMAGES, 20, bound_sizes=()).bounds) == [20]
    with pytest.raises(ValueError, match="bound_sizes must be at least 1; got 0"):
        mv.evaluate(model(), IMAGES, 20, bound_sizes=[0])


# Differences


def test_the_paired_difference():
    a, b = evaluation(0), evaluation(1)
    difference, error = a.paired_difference(b)
    assert difference == pytest.approx(a.nll - b.nll)
    by_image = b.log_p - a.log_p
    assert error == pytest.approx(np.sqrt(by_image.var(ddof=1) / 40))
    near = model()
    near.params["p1.logits.b"] += 0.1
    c = mv.evaluate(near, IMAGES, 20, progress=False)
    assert a.paired_difference(c)[1] < a.nll_se / 2  # what images share has gone
    assert b.paired_difference(a) == (-difference, error)
    with pytest.raises(ValueError, match="same images and pixels; these are of 40 and"):
        a.paired_difference(evaluation(0, images=IMAGES[::-1]))


def trained(bound="elbo", k=1, **settings):
    settings = {"epochs": 1, "batch": 20, "progress": False} | settings
    return mv.train(model(), IMAGES, bound, k, **settings)


def test_a_table_of_runs():
    runs = {"a": trained(), "b": trained("miwae", k=4, m=2, seed=1)}
    results = {
        label: mv.evaluate(run.model, IMAGES, 20, progress=False)
        for label, run in runs.items()
    }
    lines = mv.compare(runs, results).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert cells[4][:2] == ["a", "elbo, k = 1"] and cells[4][4] == "-"
    a, b = results.values()
    difference, error = b.paired_difference(a)
    assert cells[5][4] == f"{difference:+.2f} +- {error:.2f}"
    assert cells[5][3] == f"{b.nll:.2f}" and cells[5][5].endswith(" of 2")
    settings = {row[0]: row[1:] for row in cells[9:]}
    assert settings == {
        "bound": ["elbo", "miwae"],
        "k": ["1", "4"],
        "seed": ["0", "1"],
        "m": ["-", "2"],
    }
    with pytest.raises(ValueError, match="an evaluation for each run"):
        mv.compare(runs, {"a": a})


def test_settings_that_differ():
    one = {"model": {"x_dim": 3, "dtype": "float32"}, "k": 1, "options": {}}
    two = {"model": {"x_dim": 4, "dtype": "float32"}, "k": 1, "threads": 4}
    assert comparison.differences([one, one]) == {}
    assert comparison.differences([one, two, one]) == {"x_dim": [3, 4, 3]}
    three = one | {"origin": {"run": "runs/a", "epoch": 7, "parameters": "0a1b"}}
    assert comparison.differences([one, three]) == {"origin": ["-", "runs/a, epoch 7"]}


def test_curves_by_second():
    history = {"epoch": [1, 2], "bound": [-5.0, -4.0], "seconds": [2.0, 3.0]}
    assert plots.ABSCISSAS["second"](history).tolist() == [2, 5]
    assert plots.ABSCISSAS["epoch"](history) == [1, 2]


# The command line


def test_no_difference_of_two_ks():
    model = mv.VAE(IMAGES.shape[1], (2,), ((3,),), rng=0)
    a, b = (mv.evaluate(model, IMAGES[:5], k, progress=False) for k in (4, 5))
    with pytest.raises(ValueError, match="with k = 4 and 5"):
        a.paired_difference(b)
    assert a == a and a != b  # and is asked without an error


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    images = IMAGES.astype(np.float32)
    np.savez("images.npz", train_images=images, test_images=images[:30])

    def call(line):
        code = cli.main(line.split())
        written = capsys.readouterr()
        return code, written.out, written.err

    for name, bound in (("a", "elbo"), ("b", "iwae")):
        train_in(f"runs/{name}", bound)
    return call


def train_in(folder, bound, epochs=1):
    images, how = IMAGES.astype(np.float32), {"epochs": epochs, "progress": False}
    mv.train(model(), images, bound, 2, folder=folder, data="images.npz", **how)


def test_compare(command, tmp_path, monkeypatch):
    line = "compare runs/a runs/b --k 10 --images 20 --out out --by second"
    code, out, _ = command(line)
    assert code == 0
    assert re.search(r"\| b \| iwae, k = 2 \| -\d+\.\d+ \| \d+\.\d+ \| [+-]\d", out)
    assert "| bound | elbo | iwae |" in out and "20 images, NLL with k = 10" in out
    assert (tmp_path / "out/table.md").read_text().strip() in out
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {
        "learning_curves", "active_units", "bound_against_k", "normalised_weights",
    }  # fmt: skip
    name = "evaluation_20_images_k_10"
    kept = mv.Evaluation.load(tmp_path / f"runs/b/{name}.npz")
    assert (tmp_path / f"runs/b/{name}.json").exists() and kept.images == 20

    # what is kept is not measured again, but where the run has gone on
    measured = []

    def spy(model, *args, **settings):
        measured.append(model.origin["run"])
        return mv.evaluate(model, *args, **settings)

    monkeypatch.setattr(evaluate, "evaluate", spy)
    for name in ("learning_curves", "draw_evaluations"):  # drawn once is enough
        monkeypatch.setattr(plots, name, lambda *args, **settings: None)
    assert command(line)[1] == out and measured == []
    train_in("runs/a", "elbo", epochs=2)
    assert command(line)[0] == 0 and measured == ["runs/a"]
    assert command("evaluate runs/b --k 10 --images 20")[0] == 0
    assert measured == ["runs/a", "runs/b"]


def test_each_run_once(command):
    code, _, err = command("compare runs/a runs/a --k 5")
    assert code == 2 and "each run once; got runs/a, runs/a" in err
    code, _, err = command("compare runs/a nowhere --k 5")
    assert code == 2 and "nowhere: no run with a checkpoint" in err
