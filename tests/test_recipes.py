"""The search for a recipe, in small."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import minivae as mv
from minivae import cli
from minivae.data import Dataset
from minivae.experiments import recipes

FEW = {
    "base": {},
    "warm": {"stages": recipes.warmed_up(4e-3, epochs=2)},
    "averaged": {"average": 0.5},
    "batch 30, rate 0.1": {"batch": 30, "learning_rate": 0.1},
    "in two": {"stages": [(1, 0.01)], "then": {"stages": [(2, 0.02)], "batch": 30}},
}


@pytest.fixture
def small(monkeypatch):
    """Sixty images, five recipes of two epochs, one job at a time in this process."""
    images = np.random.default_rng(0).random((60, 784), np.float32) ** 4
    data = Dataset(images[:40], None, None, None, validation_images=images[40:])

    @contextmanager
    def one_thread(workers, threads):
        assert (workers, threads) == (2, 1)
        with ThreadPoolExecutor(1) as executor:
            yield executor, lambda: 1

    def load(name, *, validation):
        assert (name, validation) == ("mnist", 10_000)
        return data

    for name, value in (
        ("load", load),
        ("processes", one_thread),
        ("RECIPES", FEW),
        ("BASE", recipes.BASE | {"epochs": 2}),
        ("WEIGHTS", 3),
    ):
        monkeypatch.setattr(recipes, name, value)


def test_recipes(small, tmp_path, capsys, monkeypatch):
    command = ["reproduce", "recipes", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    rows = json.loads((tmp_path / "recipes.json").read_text())["rows"]
    assert len(rows) == 5 * 2 * 2
    runs = [mv.load_run(path.parent) for path in tmp_path.glob("*/checkpoint.npz")]
    assert len(runs) == 20 and {run.config["images"] for run in runs} == {40}
    means = {
        name: np.mean([row["nll"] for row in rows if row["recipe"] == name])
        for name in FEW
    }
    lines = [line.split(" | ") for line in table.splitlines()[4:]]
    assert [line[0].removeprefix("| ") for line in lines] == sorted(FEW, key=means.get)
    assert all(line[1] == f"{means[line[0][2:]]:.2f}" for line in lines)
    averaged = mv.load_run(tmp_path / "averaged-vae-1-seed0")
    images = recipes.load("mnist", validation=10_000).validation_images
    (row,) = (
        row for row in rows
        if (row["recipe"], row["model"], row["seed"]) == ("averaged", "vae-1", 0)
    )  # fmt: skip
    assert row["nll"] == mv.evaluate(averaged.averaged(), images, 3).nll
    monkeypatch.setattr(recipes, "train", None)
    assert cli.main(command) == 0  # nothing is trained twice
    for path in tmp_path.glob("*/evaluation.json"):
        path.unlink()  # nor where the runs are on another machine
    assert cli.main(command) == 0
    again = json.loads((tmp_path / "recipes.json").read_text())["rows"]
    assert again == rows and (tmp_path / "table.md").read_text() == table
    monkeypatch.setitem(FEW, "averaged", {"average": 0.6})  # which is another recipe
    assert cli.main(command) != 0
    kept = json.loads((tmp_path / "recipes.json").read_text())["rows"]
    assert kept == [row for row in rows if row["recipe"] != "averaged"]
    monkeypatch.setattr(recipes, "BASE", recipes.BASE | {"batch": 50})
    assert recipes.results_in(tmp_path) == []


def test_a_second_run_begins_where_the_first_ended(small, tmp_path):
    recipes.train_recipe(tmp_path, "in two", "iwae-5", 1)
    first, second = (mv.load_run(tmp_path / name) for name in ("first", "."))
    assert second.config["origin"]["parameters"] == first.model.params.digest()
    expected = ([[1, 0.01]], 100, 1), ([[2, 0.02]], 30, 3)
    for run, settings in zip((first, second), expected):
        config = run.config
        assert (config["stages"], config["batch"], config["seed"]) == settings
    assert len(second.history["epoch"]) == 2
    seconds = sum(first.history["seconds"]) + sum(second.history["seconds"])
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["training_seconds"] == pytest.approx(seconds)


def test_other_starts(small, monkeypatch):
    images = recipes.load("mnist", validation=10_000).train_images
    monkeypatch.setitem(FEW, "halved", {"weights": 0.5})
    monkeypatch.setitem(FEW, "no bias", {"output_bias": 0.0})
    base, halved, no_bias = (
        recipes.start_of(name, images, 0).params
        for name in ("base", "halved", "no bias")
    )
    assert base["p1.logits.b"].any() and not no_bias["p1.logits.b"].any()
    for name, array in base.items():
        factor = 0.5 if name.endswith(".W") else 1
        np.testing.assert_array_equal(halved[name], factor * array)
        if name != "p1.logits.b":
            np.testing.assert_array_equal(no_bias[name], array)
    assert recipes.parts_of("halved") == recipes.parts_of("base") == [recipes.BASE]


def test_a_recipe_that_fails_is_an_exit_code(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FEW, "base", {"learning_rate": 1e30})
    assert cli.main(["reproduce", "recipes", "--out", str(tmp_path)]) == 1
    assert "base, vae-1, seed 0: failed: epoch" in capsys.readouterr().err
    assert "| base | - | - |" in (tmp_path / "table.md").read_text()


def test_a_damaged_result_is_met_before_the_work(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipes, "train", None)
    path = tmp_path / "averaged-iwae-5-seed1" / "evaluation.json"
    path.parent.mkdir()
    path.write_text('{"nll": 90')
    assert cli.main(["reproduce", "recipes", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"minivae: error: {path}: not readable JSON")


def test_what_is_not_run_yet_is_a_dash(small, tmp_path):
    recipes.train_recipe(tmp_path / "base-vae-1-seed0", "base", "vae-1", 0)
    table = recipes.write_recipes(tmp_path)
    assert table.count("| - |") >= 4 and "| base | - |" in table


def test_warm_up_rises_and_falls():
    rates = [rate for epochs, rate in recipes.warmed_up(4e-3) if epochs == 1]
    assert len(rates) == 30 and rates[:3] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert rates[3] > 3.8e-3 and rates[3:] == sorted(rates[3:], reverse=True)
