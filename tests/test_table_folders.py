"""A table's folder in which something is damaged, missing, or not what it seems."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_tables import CELLS, run, small  # noqa: F401 (a fixture)

import minivae as mv
from minivae.engine.files import columns_of, write_csv
from minivae.experiments import findings, notes, progress, tables

EVALUATION = "evaluation_20_images_k_10.npz"


@pytest.fixture
def out(small, tmp_path, capsys):  # noqa: F811
    """The runs of two cells, with one and with two layers."""
    cells = "mnist-1-vae-1", "mnist-2-iwae-5"
    assert run(capsys, "table1", "--cells", *cells, "--out", tmp_path / "out")[0] == 0
    return tmp_path / "out"


def folder_of(out, name, seed=0):
    return out / "fast" / name / f"seed{seed}"


def rows_of(out, capsys):
    """Of the report: (cell, seed) -> row."""
    assert run(capsys, "report", "--out", out)[0] == 0
    kept = json.loads((out / "table1/table1.json").read_text())
    return {(row["cell"], row["seed"]): row for row in kept["rows"]}


def test_only_test_images_count(out, capsys):
    before = rows_of(out, capsys)["mnist-1-vae-1", 0]
    command = ["evaluate", str(folder_of(out, "mnist-1-vae-1")), "--k", "10"]
    assert mv.cli.main([*command, "--split", "train"]) == 0
    after = rows_of(out, capsys)["mnist-1-vae-1", 0]
    assert after == before and before["images"] == 20


@pytest.mark.parametrize(
    "name, seed, what",
    [
        ("mnist-1-vae-5", 0, "k"),
        ("mnist-1-vae-1", 1, "seed"),
        ("mnist-2-vae-1", 0, "layers"),
        ("omniglot-1-vae-1", 0, "data"),
        ("mnist-1-vae-1-to-vae-1", 0, "origin"),
    ],
)
def test_a_run_in_another_cells_folder(out, name, seed, what):
    shutil.copytree(folder_of(out, "mnist-1-vae-1"), folder_of(out, name, seed))
    found = findings.find(CELLS[name], "fast", seed, out)
    assert found == f"the run in this folder is another: it has another {what}"


@pytest.mark.parametrize("file", [EVALUATION, "checkpoint.npz", "config.json"])
def test_a_damaged_file_costs_its_own_row_only(out, capsys, file):
    path = folder_of(out, "mnist-1-vae-1") / file
    path.write_bytes(path.read_bytes()[:30])
    rows = rows_of(out, capsys)
    row, other = rows["mnist-1-vae-1", 0], rows["mnist-2-iwae-5", 0]
    assert row["nll"] is None and row["reason"].startswith(f"not readable: {path}")
    assert other["reason"] is None


@pytest.mark.filterwarnings("default:.*left out")
def test_what_a_row_can_do_without(out, capsys):
    for name in ("machine.json", notes.UNITS):
        (folder_of(out, "mnist-1-vae-1") / name).write_text("?")
    row = rows_of(out, capsys)["mnist-1-vae-1", 0]
    assert row["nll"] is not None and row["processor"] is None


def test_a_missing_config_is_said(out, capsys):
    (folder_of(out, "mnist-1-vae-1") / "config.json").unlink()
    assert "config.json" in rows_of(out, capsys)["mnist-1-vae-1", 0]["reason"]


@pytest.mark.parametrize("suffix, left", [(".npz", 100), (".npz", 0), (".json", 0)])
def test_an_evaluation_that_is_damaged_is_made_again(out, capsys, suffix, left):
    path = (folder_of(out, "mnist-1-vae-1") / EVALUATION).with_suffix(suffix)
    before = path.read_bytes()
    path.unlink()
    if left:
        path.write_bytes(before[:left])
    command = "table1", "--cells", "mnist-1-vae-1", "--out", out
    assert run(capsys, *command)[0] == 0
    nll = mv.Evaluation.load(path).nll
    assert nll == rows_of(out, capsys)["mnist-1-vae-1", 0]["nll"] and path.exists()


def test_other_test_images_are_evaluated_again(out, capsys, monkeypatch):
    path = folder_of(out, "mnist-1-vae-1") / EVALUATION
    before, real = mv.Evaluation.load(path), tables.load

    def other(name):
        data = real(name)
        return replace(data, test_images=data.test_images[::-1])

    monkeypatch.setattr(tables, "load", other)
    tables.images_of.cache_clear()
    assert run(capsys, "table1", "--cells", "mnist-1-vae-1", "--out", out)[0] == 0
    assert mv.Evaluation.load(path).x_digest != before.x_digest


def test_evaluations_of_other_images_are_not_compared(out, capsys):
    folder = folder_of(out, "mnist-1-vae-5")
    run(capsys, "table1", "--cells", "mnist-1-vae-5", "--out", out)
    (folder / EVALUATION).unlink()
    command = ["evaluate", str(folder), "--k", "10", "--images", "10"]
    assert mv.cli.main(command) == 0
    command = "table1", "--cells", "mnist-1-iwae-5", "--out", out
    assert run(capsys, *command)[0] == 0
    kept = json.loads((out / "table1/table1.json").read_text())
    verdicts = {entry["claim"]: entry["verdict"] for entry in kept["orderings"]}
    assert verdicts["mnist, 1 layer: IWAE below VAE, k = 5"] == "of other images"
    assert verdicts["mnist, 1 layer: IWAE falls from k = 1 to 5"] != "of other images"


def test_a_second_stage_without_its_first(small, tmp_path, capsys):  # noqa: F811
    command = "table2", "--cells", "*50-to-vae-1", "--out", tmp_path
    assert run(capsys, *command)[0] == 0
    shutil.rmtree(folder_of(tmp_path, "mnist-1-iwae-50"))
    rows_of(tmp_path, capsys)
    curves = small["fast-from-mnist-1-iwae-50-learning_curves.png"]
    assert [columns["epoch"] for columns in curves.values()] == [[3, 4]]


def test_other_folders_beside_the_seeds(out):
    shutil.copytree(folder_of(out, "mnist-1-vae-1"), folder_of(out, "mnist-1-vae-1", 7))
    (folder_of(out, "mnist-1-vae-1").with_name("seed0.bak")).mkdir()
    assert findings.seeds_of(out, "fast", CELLS["mnist-1-vae-1"]) == {0, 7}


def test_a_run_by_hand_without_test_images(out, capsys):
    """A cell may have been trained with --validation, which has another test column."""
    folder = folder_of(out, "mnist-1-vae-1")
    found = findings.find(CELLS["mnist-1-vae-1"], "fast", 0, out)
    del found.run.history["test_bound"]
    row = findings.row_of(CELLS["mnist-1-vae-1"], "fast", 0, found)
    assert row["last_bounds"]["test_bound"] is None and row["nll"] is not None
    (folder / "machine.json").unlink()
    assert rows_of(out, capsys)["mnist-1-vae-1", 0]["processor"] is None
    assert "None" not in (out / "table1/table.md").read_text()


def test_one_image_has_no_standard_error(small, tmp_path, capsys, monkeypatch):  # noqa: F811
    real = tables.load

    def one(name):
        data = real(name)
        return replace(data, test_images=data.test_images[:1])

    monkeypatch.setattr(tables, "load", one)
    tables.images_of.cache_clear()
    command = "table1", "--cells", "mnist-1-vae-1", "--out", tmp_path
    code, said, _ = run(capsys, *command)
    assert code == 0 and " +- - |" in said


def test_progress_of_a_damaged_history(tmp_path, capsys):
    path = tmp_path / "metrics.csv"
    with progress.progress_of({"train a": (tmp_path, 5)}) as watch:
        for text in ("", "epoch,bound\n1", "epoch\n1\n", "epoch,bound\n1,\xff\n"):
            path.write_text(text, encoding="latin1")
            watch(["train a"], set(), {})
    assert not capsys.readouterr().err


def train_for(epochs, out, capsys, monkeypatch):
    """A cell of so many epochs, more than it had; what was said."""
    monkeypatch.setitem(mv.PRESETS["fast"], "epochs", epochs)
    monkeypatch.setitem(mv.PRESETS["fast"], "schedule", "constant")
    code, _, err = run(capsys, "table1", "--cells", "mnist-1-vae-1", "--out", out)
    assert code == 0, err
    return err


def test_a_kill_between_checkpoint_and_notes(small, tmp_path, capsys, monkeypatch):  # noqa: F811
    path = folder_of(tmp_path, "mnist-1-vae-1") / notes.UNITS
    train_for(2, tmp_path, capsys, monkeypatch)
    columns = columns_of(path)
    write_csv(path, {name: values[:1] for name, values in columns.items()})
    train_for(4, tmp_path, capsys, monkeypatch)
    after = columns_of(path)
    assert after["epoch"] == [1, 2, 3, 4]
    assert {name: values[:2] for name, values in after.items()} == columns


@pytest.mark.filterwarnings("default:.*left out")
@pytest.mark.parametrize("text", ["", "epoch,z1_1\n1", "epoch,z1_1\n1,x\n", "z1\n1\n"])
def test_damaged_notes_are_begun_anew(small, tmp_path, capsys, monkeypatch, text):  # noqa: F811
    folder = folder_of(tmp_path, "mnist-1-vae-1")
    train_for(2, tmp_path, capsys, monkeypatch)
    (folder / notes.UNITS).write_text(text)
    (folder / "machine.json").write_text('{"processor": 5}')
    err = train_for(3, tmp_path, capsys, monkeypatch)
    assert f"{folder / 'machine.json'}: not what a run keeps of its machine" in err
    assert (f"{notes.UNITS}: not whole columns" in err) == (text != "z1\n1\n")
    assert columns_of(folder / notes.UNITS)["epoch"] == [2, 3]
    assert "numpy" in json.loads((folder / "machine.json").read_text())["versions"]


def test_what_is_written_is_read_again(tmp_path):
    columns = {"a": [1.0, 2.0], "b": [0.1, float("-inf")]}
    write_csv(tmp_path / "x.csv", columns)
    assert columns_of(tmp_path / "x.csv") == columns
    assert columns_of(tmp_path / "none.csv") == {}
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"x.csv: not whole columns"):
        columns_of(tmp_path / "x.csv")
    assert np.isneginf(columns["b"][1])


@pytest.mark.parametrize(
    "argv, words",
    [
        (["table1", "--cells", "mnist-1-*", "mnist-9*"], "matches mnist-9*"),
        (["table1", "--run", "x"], "--run is for measures and refit only"),
        (["report", "--data", "x"], "--data is for table1 and table2 and measures"),
        (
            ["table1", "--threads-per-cell", "99999"],
            "--threads-per-cell must be at most",
        ),
        (["table1", "--to", __file__], "not a folder"),
    ],
)
def test_wrong_use(argv, words, small, tmp_path, capsys):  # noqa: F811
    code, _, err = run(capsys, *argv, "--out", tmp_path / "out")
    assert code == 2 and words in err and not (tmp_path / "out").exists()
