"""The paper's tables in small: tiny images, two epochs, jobs on a thread."""

import json
import re
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import standin

import minivae as mv
from minivae import cli, data
from minivae.commands import reproduce
from minivae.data import Dataset
from minivae.engine import files
from minivae.engine.lock import writing_in
from minivae.experiments import findings, notes, progress, tables, tables_page
from minivae.experiments.tables import PUBLISHED, TABLES, command_of, settings_of
from minivae.presets import ARCHITECTURES

CELLS = {cell.name: cell for table in TABLES.values() for cell in table}


@contextmanager
def on_a_thread(workers, threads):
    with ThreadPoolExecutor(1) as executor:
        yield executor, lambda: 1


@pytest.fixture
def small(monkeypatch):
    rng = np.random.default_rng(7)  # not the seed that draws the pixels
    images = rng.random((60, 9), np.float32) ** 2
    few = Dataset(images, None, images[:20], None, name="mnist")
    for module in (data, tables):
        monkeypatch.setattr(module, "load", lambda name, **options: few)
    tables.images_of.cache_clear()
    fast = {"epochs": 2, "learning_rate": 1e-2, "schedule": "cosine", "batch": 30}
    burda = {"stages": [(1, 1e-2), (2, 1e-3)], "batch": 30}
    for name, preset in {"fast": fast, "burda": burda}.items():
        monkeypatch.setitem(mv.PRESETS, name, preset)
    for layers, sizes in {1: (5,), 2: (4, 3)}.items():
        shape = {"latent_dims": sizes, "hidden_dims": ((6,),) * layers}
        monkeypatch.setitem(ARCHITECTURES, layers, shape)
    for module in (tables, findings, tables_page):
        monkeypatch.setattr(module, "WEIGHTS", 10)
    monkeypatch.setattr(reproduce, "processes", on_a_thread)
    drawn = {}  # the pictures, by their files' names: what would be in them

    def draw(what, path, *more):
        drawn[path.name] = what
        path.parent.mkdir(exist_ok=True)
        path.touch()

    curves = ("active_units", "bound_against_k", "learning_curves", "units_over_epochs")
    for name in (*curves, "samples"):
        monkeypatch.setattr(mv.plots, name, draw)
    monkeypatch.setattr(mv.plots, "draw_model", lambda *args: None)
    yield drawn
    tables.images_of.cache_clear()


def run(capsys, *argv):
    code = cli.main(["reproduce", *map(str, argv)])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out, output.err


def test_cells():
    assert [cell.name for cell in TABLES["table2"]] == [
        "mnist-1-vae-1-to-iwae-50",
        "mnist-1-vae-1-to-vae-1",
        "mnist-1-iwae-50-to-vae-1",
        "mnist-1-iwae-50-to-iwae-50",
    ]
    assert len(TABLES["table1"]) == 20 and len(CELLS) == 24
    # all but the controls, which the paper lacks
    assert CELLS.keys() - PUBLISHED.keys() == {
        "mnist-1-vae-1-to-vae-1",
        "mnist-1-iwae-50-to-iwae-50",
    }
    assert PUBLISHED.keys() <= CELLS.keys()
    for name, (_, units) in PUBLISHED.items():
        assert len(units) == CELLS[name].layers


def test_settings():
    burda, fast = mv.PRESETS["burda"], mv.PRESETS["fast"]
    assert settings_of(CELLS["mnist-1-iwae-50"], "burda") == burda
    second = settings_of(CELLS["mnist-1-vae-1-to-iwae-50"], "burda")
    assert second == {"batch": 20, "epsilon": 5e-6} | {
        "epochs": 3**7,
        "learning_rate": pytest.approx(1e-4),
    }
    for name, backward, peak in (
        ("mnist-1-vae-50", "all", 1),
        ("omniglot-2-iwae-5", "all", 0.5),
        ("omniglot-2-iwae-50", "sparse", 0.5),
        ("mnist-1-vae-1-to-iwae-50", "sparse", 0.1),
        ("mnist-1-iwae-50-to-vae-1", "all", 0.1),
    ):
        changed = {
            "estimator": "dreg",
            "backward": backward,
            "learning_rate": pytest.approx(peak * fast["learning_rate"]),
        }
        assert settings_of(CELLS[name], "fast") == fast | changed


@pytest.mark.parametrize(
    "name, preset",
    [("mnist-2-iwae-50", "fast"), ("mnist-1-vae-1-to-iwae-50", "burda")],
)
def test_a_cell_is_a_run_that_can_be_typed(name, preset, small, tmp_path, capsys):
    cell, folder = CELLS[name], tmp_path / preset / name / "seed3"
    for each in (cell.origin, cell):
        if each:
            where = {"preset": preset, "seed": 3, "out": tmp_path, "data_path": None}
            assert cli.main(shlex.split(command_of(each, **where))[1:]) == 0
    before = (folder / "checkpoint.npz").read_bytes(), mv.load_run(folder).config
    table, settings = (
        f"table{1 + bool(cell.origin)}",
        ["--preset", preset, "--seeds", 3],
    )
    code, _, err = run(capsys, table, "--cells", name, *settings, "--out", tmp_path)
    assert code == 0 and err.count(f"{name}/seed3: done") == 2
    after = (folder / "checkpoint.npz").read_bytes(), mv.load_run(folder).config
    assert before == after  # so nothing was left to train
    assert (folder / "evaluation_20_images_k_10.json").exists()


def test_the_longest_of_each_seed_begins_first(small, tmp_path, monkeypatch):
    jobs = {}
    monkeypatch.setattr(tables, "run_jobs", lambda all_jobs, *_: jobs.update(all_jobs))
    names = ["mnist-1-vae-1", "mnist-1-iwae-5", "mnist-1-vae-50", "mnist-2-vae-5"]
    cells = [CELLS[name] for name in names]
    asked = {"seeds": [0, 1], "data_path": None, "device": "cpu", "threads": 1}
    tables.train_table(cells, tmp_path, "fast", open_executor=None, **asked)
    trained = [name.removeprefix("train ") for name in jobs if name[:5] == "train"]
    order = ["mnist-1-vae-50", "mnist-2-vae-5", "mnist-1-iwae-5", "mnist-1-vae-1"]
    assert trained == [f"{name}/seed{seed}" for seed in (0, 1) for name in order]


def test_it_goes_on_where_it_was_stopped(small, tmp_path, capsys, monkeypatch):
    calls, real = [], tables.train

    def stopping(*args, **settings):
        calls.append(settings["folder"].parent.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **settings)

    command = "table1", "--cells", "mnist-1-vae-1", "mnist-1-iwae*", "--out", tmp_path
    monkeypatch.setattr(tables, "train", stopping)
    code, _, err = run(capsys, *command)
    assert code == 130 and err.strip().endswith(
        "minivae: stopped; each cell keeps its whole epochs. The same command again"
        " resumes there."
    )
    names = ["mnist-1-iwae-50", "mnist-1-iwae-5", "mnist-1-vae-1"]
    assert calls == names[:2]  # an evaluation between the two
    done = tmp_path / "fast/mnist-1-iwae-50/seed0/evaluation_20_images_k_10.json"
    measured = done.stat().st_mtime_ns
    code, _, err = run(capsys, *command)
    assert code == 0 and calls[2:] == names
    assert done.stat().st_mtime_ns == measured
    for name in names:
        folder = tmp_path / "fast" / name / "seed0"
        assert mv.load_run(folder).history["epoch"] == [1, 2]
        result = json.loads((folder / "evaluation_20_images_k_10.json").read_text())
        assert result["nll"] > 0
        assert "numpy" in json.loads((folder / "machine.json").read_text())["versions"]


def test_on_a_gpu(small, tmp_path, capsys, monkeypatch):
    """With a stand-in for one; the host comes to the same."""
    command = "table1", "--cells", "mnist-1-vae-1", "--out"
    assert run(capsys, *command, tmp_path / "cpu")[0] == 0
    standin.install(monkeypatch)
    monkeypatch.setattr(reproduce, "require_device", lambda: None)
    monkeypatch.setattr(notes, "processor", lambda device: f"a {device}")
    assert run(capsys, *command, tmp_path / "cuda", "--device", "cuda")[0] == 0
    nll = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device / "fast/mnist-1-vae-1/seed0"
        config = json.loads((folder / "config.json").read_text())
        assert config["model"]["device"] == device
        found = json.loads((folder / "evaluation_20_images_k_10.json").read_text())
        nll[device] = found["nll"]
    assert nll["cuda"] == pytest.approx(nll["cpu"], rel=1e-4)
    assert json.loads((folder / notes.MACHINE).read_text())["processor"] == "a cuda"


def test_without_a_gpu(small, tmp_path, capsys, monkeypatch):
    """It is said at once, and no cell is begun."""

    def missing():
        raise OSError("device 'cuda' finds no GPU")

    monkeypatch.setattr(reproduce, "require_device", missing)
    code, _, err = run(capsys, "table1", "--device", "cuda", "--out", tmp_path)
    assert code == 2 and "finds no GPU" in err and not [*tmp_path.iterdir()]


def test_a_run_on_two_machines_names_both(tmp_path, monkeypatch):
    model = mv.VAE(9, (2,), ((4,),), rng=np.random.default_rng(0))
    kept, path = (
        SimpleNamespace(folder=tmp_path, model=model),
        tmp_path / "machine.json",
    )
    for name in ("a card", "a card", "a processor", "a processor", "a card"):
        monkeypatch.setattr(notes, "processor", lambda device, name=name: name)
        notes.keep_machine(kept)
    found = json.loads(path.read_text())
    assert found["processor"] == "a card, then a processor, then a card"
    assert ", then " not in found["versions"] and "numba" in found["versions"]


def test_an_evaluation_of_other_parameters_is_none(small, tmp_path, capsys):
    command = "table1", "--cells", "mnist-1-vae-1", "--out", tmp_path
    assert run(capsys, *command)[0] == 0
    folder = tmp_path / "fast/mnist-1-vae-1/seed0"
    path = folder / "evaluation_20_images_k_10.npz"
    right = mv.Evaluation.load(path)
    assert not [*folder.glob("*part*")]  # of its parts none is left
    images = tables.load("mnist").test_images
    whole = mv.evaluate(mv.load_run(folder).model, images, 10, progress=False)
    np.testing.assert_allclose(right.log_p, whole.log_p, rtol=1e-5)
    assert right.x_digest == whole.x_digest and right.images == 20
    replace(right, params_digest="another", nll=7.0).save(path)
    assert run(capsys, *command)[0] == 0
    assert mv.Evaluation.load(path).nll == right.nll


def test_a_failure_stops_what_needs_it_only(small, tmp_path, capsys, monkeypatch):
    real = tables.train

    def failing(*args, **settings):
        if settings["folder"].parent.name == "mnist-1-vae-1":
            raise mv.NonFiniteError("epoch 1, step 7: NaN")
        return real(*args, **settings)

    monkeypatch.setattr(tables, "train", failing)
    code, out, err = run(capsys, "table2", "--seeds", 0, 1, "--out", tmp_path)
    assert code == 1 and "2 failed" in out
    for seed in (0, 1):
        assert f"train mnist-1-vae-1/seed{seed}: failed: epoch 1, step 7: NaN" in err
    there = {path.parent.name for path in tmp_path.glob("fast/*/seed1")}
    assert there == {
        "mnist-1-iwae-50",
        "mnist-1-iwae-50-to-vae-1",
        "mnist-1-iwae-50-to-iwae-50",
    }


def test_a_second_stage_starts_from_the_first(small, tmp_path, capsys):
    code, _, err = run(capsys, "table2", "--cells", "*50-to-vae-1", "--out", tmp_path)
    assert code == 0 and err.count(": done") == 4
    first, second = (
        mv.load_run(tmp_path / "fast" / name / "seed0")
        for name in ("mnist-1-iwae-50", "mnist-1-iwae-50-to-vae-1")
    )
    assert (second.config["bound"], second.config["k"]) == ("elbo", 1)
    assert second.history["learning_rate"][0] == pytest.approx(1e-3)
    # nearer to it than to where that began
    fresh = mv.VAE(9, **ARCHITECTURES[1], rng=np.random.default_rng(0))
    moved, all_moved = (
        np.linalg.norm(second.model.params.vector - model.params.vector)
        for model in (first.model, fresh)
    )
    assert moved < all_moved / 2


def test_it_waits_for_who_writes_there(small, tmp_path, capsys, monkeypatch):
    folder, waits = tmp_path / "fast/mnist-1-vae-1/seed0", []
    lock = writing_in(folder)
    lock.__enter__()

    def wait(seconds):
        waits.append(seconds)
        lock.__exit__(None, None, None)

    monkeypatch.setattr(tables, "sleep", wait)
    code, _, err = run(capsys, "table1", "--cells", "mnist-1-vae-1", "--out", tmp_path)
    assert code == 0, err
    assert waits == [tables.LOCKED] and (folder / "checkpoint.npz").exists()


@pytest.mark.parametrize(
    "argv, words",
    [
        (
            ["table1", "--cells", "mnist-3*"],
            "no cell of table1 matches mnist-3*: mnist",
        ),
        (["table2", "--seeds", "0", "-1"], "--seeds: a whole number from 0 on"),
        (["snr", "--cells", "mnist*"], "--cells is for table1 and table2 only"),
        (["sparse", "--threads-per-cell", "2"], "--threads-per-cell is for table1"),
    ],
)
def test_wrong_use_is_2(argv, words, small, tmp_path, capsys):
    code, _, err = run(capsys, *argv, "--out", tmp_path / "out")
    assert code == 2 and words in err
    assert not (tmp_path / "out").exists()


def test_progress_without_a_terminal(tmp_path, capsys, monkeypatch):
    """A line when there is something new, and one a minute at most."""
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress.time, "time", lambda: 0.0)
    monkeypatch.setattr(progress.time, "localtime", time.gmtime)
    path = tmp_path / "metrics.csv"
    rows = ["epoch,learning_rate,bound,seconds"]
    with progress.progress_of({"train a": (tmp_path, 5)}) as watch:
        watch(["train a"], set(), {})
        for epoch, seconds in enumerate([100.0, 3600.0, 100.0, 3600.0], start=1):
            rows.append(f"{epoch},0.1,-{90 - epoch}.25,{seconds}")
            path.write_text("\n".join(rows))
            watch(["train a"], set(), {})
            clock[0] += 40
        for _ in range(2):
            watch([], {"train b"}, {"train a": ValueError("no")})
    assert capsys.readouterr().err.splitlines() == [
        "train a: epoch 1 of 5, bound -89.25, ends Thu 00:06",
        "train a: epoch 3 of 5, bound -87.25, ends Thu 00:03",
        "train b: done",
        "train a: failed: no",
    ]


def test_a_preset_may_set_any_argument(small, tmp_path, capsys, monkeypatch):
    preset = {"estimator": "stl", "backward": "sparse", "tau": 0.5, "average": 0.9}
    monkeypatch.setitem(mv.PRESETS, "fast", preset | {"epochs": 1})
    command = ["train", "--preset", "fast", "--k", "3", "--tau", "0.25"]
    assert cli.main([*command, "--out", str(tmp_path)]) == 0
    config = mv.load_run(tmp_path).config
    assert config | preset | {"tau": 0.25} == config


def test_sparse_has_nothing_to_choose_by_on_the_elbo(small):
    model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(0))
    images = np.full((30, 9), 0.5)
    with pytest.warns(UserWarning, match="'sparse' keeps some by chance"):
        mv.train(model, images, "elbo", 5, epochs=1, backward="sparse", progress=False)


# The page


def evaluation(log_p, units=(3,)):
    """An `Evaluation` of these log p(x)."""
    log_p = np.asarray(log_p, float)
    return mv.Evaluation(
        **dict.fromkeys(("bounds", "unit_variances", "reconstruction", "kl")),
        **dict.fromkeys(("effective_sample_size", "sorted_weights", "params_digest")),
        nll=-log_p.mean(),
        nll_se=1.0,
        active_units=[*units],
        images=len(log_p),
        k=10,
        log_p=log_p,
        x_digest="the same",
    )


def results(*log_ps, units=(3,)):
    found = {}
    for seed, log_p in enumerate(log_ps):
        result = findings.Result(None, evaluation(log_p, units))
        row = {"nll": result.evaluation.nll, "nll_se": 1.0, "active_units": [*units]}
        row["images"] = len(log_p)
        found[seed] = findings.Measured(row, result)
    return found


def elsewhere(measured):
    """The same, of runs that are not here."""
    return {seed: found._replace(result=None) for seed, found in measured.items()}


def test_an_ordering_is_of_pairs():
    """Images differ by far more than the models do."""
    hard = 30 * np.random.default_rng(0).standard_normal(100)
    d = 1 + np.random.default_rng(1).standard_normal(100)
    better, worse = results(hard, units=(5, 2)), results(hard - d)
    outcome = findings.ordering(better, worse)
    assert outcome == {
        "difference": pytest.approx(-d.mean()),
        "se": pytest.approx(d.std(ddof=1) / 10),
        "paired": True,
        "active_units_difference": 4,
        "seeds": 1,
        "verdict": "holds",
    }
    reverse = findings.ordering(worse, better)
    assert reverse["difference"] == pytest.approx(d.mean())
    assert reverse["verdict"] == "reversed"
    noise = results(hard + np.where(np.arange(100) % 2, 1.0, -0.99))
    assert findings.ordering(noise, results(hard))["verdict"] == "undecided"
    assert findings.ordering({}, worse)["verdict"] == "not run"


def test_an_ordering_within_the_spread_of_seeds_is_undecided():
    x = np.linspace(-90, -80, 50)
    for higher, verdict in ((-0.1, "holds"), (0.1, "undecided")):
        outcome = findings.ordering(
            results(x, x + 1, x + 2), results(x - 3 + higher, x + higher)
        )
        # of the two seeds that both have
        assert outcome["difference"] == pytest.approx(higher - 2)
        assert outcome["seeds"] == 2 and outcome["verdict"] == verdict
    outcome = findings.ordering(results(x, x + 2), results(x + 1, x - 5))
    assert outcome["difference"] == pytest.approx(-3)
    assert outcome["verdict"] == "undecided"  # one of the higher is below one of these


def test_images_of_runs_elsewhere_are_not_paired():
    """Then the two standard errors add up; what pairs have shown is kept, as long as it
    is of the same NLLs.
    """
    x = np.linspace(-90, -80, 50)
    lower, higher = results(x, units=(5,)), results(x - 1.25)
    paired = findings.ordering(lower, higher)
    unpaired = findings.ordering(lower, elsewhere(higher))
    assert unpaired == paired | {
        "se": pytest.approx(2**0.5),
        "paired": False,
        "verdict": "undecided",
    }
    assert findings.ordering(lower, elsewhere(higher), paired) == paired
    for before in (unpaired, paired | {"difference": -1.0}, paired | {"seeds": 2}):
        assert findings.ordering(lower, elsewhere(higher), before) == unpaired
    # a further seed of one cell may lie among those of the other
    more = elsewhere(results(x - 1.25, x + 1))
    outcome = findings.ordering(lower, more, paired | {"verdict": "holds"})
    assert outcome == paired | {"verdict": "undecided"}
    fewer = findings.ordering(lower, elsewhere(results(x[:9])))
    assert fewer["verdict"] == "of other images" and fewer["seeds"] == 0
    lower[0].row["x_digest"], higher[0].row["x_digest"] = "one", "another"
    other = findings.ordering(lower, elsewhere(higher))
    assert other["verdict"] == "of other images"


def test_claims():
    one, two = findings.claims("table1"), findings.claims("table2")
    names = [[cell.name for cell in cells] for _, *cells in one + two]
    assert ["mnist-1-iwae-50", "mnist-1-vae-50"] in names
    assert ["omniglot-2-iwae-5", "omniglot-2-vae-1"] in names
    assert ["mnist-2-iwae-50", "mnist-1-iwae-50"] in names
    assert ["mnist-1-vae-1-to-iwae-50", "mnist-1-vae-1-to-vae-1"] in names
    assert ["mnist-1-iwae-50-to-iwae-50", "mnist-1-iwae-50-to-vae-1"] in names
    for claim, lower, higher in one:  # which the paper found
        assert PUBLISHED[lower.name][0] < PUBLISHED[higher.name][0], claim


def test_report(small, tmp_path, capsys):
    out, cells = tmp_path / "out", ["mnist-1-vae-1", "mnist-1-iwae-50", "mnist-2-vae-5"]
    code, said, _ = run(capsys, "table1", "--cells", *cells, "--out", out)
    assert code == 0 and "| mnist-1-vae-5 | fast | 0 | - | not begun | 86.47 |" in said
    run(capsys, "table2", "--cells", "*-1-to-iwae-50", "--out", out)
    (out / "fast/mnist-2-vae-5/seed0/evaluation_20_images_k_10.npz").unlink()
    config = out / "fast/mnist-1-iwae-50/seed0/config.json"
    config.write_text(config.read_text().replace("cosine", "constant"))
    to = tmp_path / "to"
    code, said, _ = run(capsys, "report", "--out", out, "--to", to)
    assert code == 0 and str(to / "table1") in said and str(to / "table2") in said
    rows = {}
    for table in TABLES:
        page = (to / table / "table.md").read_text()
        names = re.findall(r"\]\((.*)\)$", page, re.M)
        assert {*names} <= small.keys() and len(names) == int(table[-1]) + 4
        kept = json.loads((to / table / f"{table}.json").read_text())
        rows |= {row["cell"]: row for row in kept["rows"]}
    assert rows.keys() == CELLS.keys()
    found = mv.Evaluation.load(
        out / "fast/mnist-1-vae-1/seed0/evaluation_20_images_k_10.npz"
    )
    row = rows["mnist-1-vae-1"]
    assert row["nll"] == found.nll and row["nll_se"] == found.nll_se
    assert row["difference"] == pytest.approx(found.nll - 86.76)
    assert (row["data"], row["layers"], row["bound"], row["k"]) == (
        "mnist",
        1,
        "elbo",
        1,
    )
    assert row["active_units"] == found.active_units and row["images"] == 20
    assert (row["epochs"], row["preset"], row["seed"], row["reason"]) == (
        *(2, "fast", 0, None),
    )
    assert row["seconds"] > 0 and "numpy" in row["versions"]
    assert str(tmp_path) not in json.dumps(rows)
    empty = {name: row["reason"] for name, row in rows.items() if row["nll"] is None}
    curves = small["fast-from-mnist-1-vae-1-learning_curves.png"]
    assert {label: columns["epoch"] for label, columns in curves.items()} == {
        "VAE, k = 1": [1, 2],
        "VAE, k = 1 -> IWAE, k = 50": [3, 4],
    }
    units = small["fast-from-mnist-1-vae-1-units_over_epochs.png"]
    for label, columns in units.items():
        assert columns["epoch"] == curves[label]["epoch"] and len(columns) == 1 + 5
    assert row["unit_variances"] == [found.unit_variances[0].tolist()]
    history = mv.load_run(out / "fast/mnist-1-vae-1/seed0").history
    assert row["last_bounds"] == {
        name: history[name][-1] for name in ("bound", "test_bound")
    }
    assert empty["mnist-2-vae-5"] == "trained, but not evaluated"
    assert (
        empty["mnist-1-iwae-50"]
        == "schedule was constant, is cosine in preset fast now"
    )
    assert len(empty) == len(CELLS) - 2


@pytest.mark.filterwarnings("default:.*what was known is kept")
def test_report_keeps_what_it_knows_of_runs_elsewhere(small, tmp_path, capsys):
    """Two machines, one page; but a page among its own runs is of these alone."""
    a, b, to = (tmp_path / name for name in ("a", "b", "to"))
    cells = ["mnist-1-vae-1", "mnist-1-iwae-5"]
    run(capsys, "table1", "--cells", *cells, "--out", a, "--to", to)
    path = to / "table1/table1.json"
    before, drawn = json.loads(path.read_text()), {**small}
    small.clear()
    run(capsys, "table1", "--cells", "mnist-1-iwae-50", "--out", b)
    begun = b / "fast/mnist-1-vae-1/seed0"
    begun.mkdir(parents=True)
    how = "table1", "--cells", "mnist-1-vae-1", "--out", b, "--preset", "burda"
    _, _, err = run(capsys, *how, "--to", to)
    assert "no whole epoch yet; what was known is kept" in err
    begun.rmdir()
    page = json.loads(path.read_text())
    of_a, of_both = (
        {(row["cell"], row["preset"]): row for row in found["rows"] if row["nll"]}
        for found in (before, page)
    )
    new = {("mnist-1-iwae-50", "fast"), ("mnist-1-vae-1", "burda")}
    assert of_both.keys() == of_a.keys() | new and len(of_a) == 2
    assert all(of_both[name] == row for name, row in of_a.items())
    outcomes = {e["claim"]: e for e in page["orderings"] if e["preset"] == "fast"}
    falls = "mnist, 1 layer: IWAE falls from k = "
    assert outcomes[f"{falls}1 to 5"] in before["orderings"]
    assert outcomes[f"{falls}1 to 5"]["paired"] is True
    assert outcomes[f"{falls}5 to 50"]["paired"] is False
    # three curves in one picture need three runs; the one that was there stays
    shared = "fast-mnist-1-learning_curves.png"
    assert shared in drawn and len(drawn[shared]) == 2
    written = (to / "table1/table.md").read_text()
    assert "(unpaired) |" in written and f"({shared})" in written
    assert {path.name for path in (to / "table1").glob("*.png")} == {
        *re.findall(r"\]\((.*)\)$", written, re.M)
    }
    run(capsys, "report", "--out", b)
    own = json.loads((b / "table1/table1.json").read_text())
    assert {(r["cell"], r["preset"]) for r in own["rows"] if r["nll"]} == new
    for row in page["rows"]:  # as JSON has an infinite NLL
        if (row["cell"], row["preset"]) == ("mnist-1-vae-1", "fast"):
            row |= {"nll": "inf", "nll_se": "nan", "difference": "inf"}
    path.write_text(json.dumps(page))
    assert run(capsys, "report", "--out", b, "--to", to)[0] == 0
    assert "| 20 | inf +- nan | 86.76 | +inf |" in (to / "table1/table.md").read_text()
    for row in page["rows"]:  # nor has the preset been another then
        if (row["cell"], row["preset"]) == ("mnist-1-iwae-5", "fast"):
            row["settings"]["batch"] += 1
    path.write_text(json.dumps(page))
    run(capsys, "report", "--out", b, "--to", to)
    page = json.loads(path.read_text())
    nll = {(row["cell"], row["preset"]): row["nll"] for row in page["rows"]}
    assert nll["mnist-1-iwae-5", "fast"] is None and nll["mnist-1-vae-1", "fast"]
    for damage in ("active_units", "nll_se", "settings"):
        damaged = json.loads(path.read_text())
        for row in damaged["rows"]:
            row[damage] = None
        (to / "table1/table1.json").write_text(json.dumps(damaged))
        code, _, err = run(capsys, "report", "--out", b, "--to", to)
        assert code == 2 and f"{path}: not the rows of a table" in err
        path.write_text(json.dumps(page))


def test_the_units_are_watched(small, tmp_path, capsys):
    """A row an epoch, as `evaluate` measures it; a resumed run replaces its rows."""
    run(capsys, "table1", "--cells", "mnist-2-vae-1", "--out", tmp_path)
    folder = tmp_path / "fast/mnist-2-vae-1/seed0"
    columns = files.columns_of(folder / notes.UNITS)
    model, images = mv.load_run(folder).model, data.load("mnist").test_images
    expected = mv.evaluate(model, images, 1, progress=False).unit_variances
    assert columns.pop("epoch") == [1, 2]
    assert [values[-1] for values in columns.values()] == [*np.concatenate(expected)]
    assert list(columns) == [f"z1_{i}" for i in range(1, 5)] + ["z2_1", "z2_2", "z2_3"]
    before = (folder / notes.UNITS).read_bytes()
    (folder / "checkpoint.npz").unlink()
    (folder / "config.json").unlink()
    run(capsys, "table1", "--cells", "mnist-2-vae-1", "--out", tmp_path)
    assert (folder / notes.UNITS).read_bytes() == before


def test_of_a_long_run_each_tenth_epoch_is_watched(small, tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "ALL", 3)
    monkeypatch.setattr(notes, "EACH", 4)
    images = data.load("mnist").test_images
    model = mv.VAE(images.shape[1], (2,), ((3,),), rng=0)
    how = {"folder": tmp_path, "epochs": 9, "progress": False}
    mv.train(model, images, k=1, **how, callback=partial(notes.after_epoch, images))
    rows = (tmp_path / notes.UNITS).read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4", "8"]
    caught = mv.load_run(tmp_path)  # epoch 9 is not watched: nothing to catch up with
    (tmp_path / notes.MACHINE).unlink()
    notes.catch_up(images, caught)
    assert not (tmp_path / notes.MACHINE).exists()


def test_report_says_how_far_a_run_is(small, tmp_path, monkeypatch):
    preset = mv.PRESETS["fast"] | {"epochs": 3, "schedule": "constant"}
    cell = CELLS["mnist-1-vae-1"]
    monkeypatch.setitem(mv.PRESETS, "fast", preset | {"epochs": 2})
    settings = settings_of(cell, "fast")
    tables.train_cell(cell, "fast", settings, 0, tmp_path, None, "cpu")
    monkeypatch.setitem(mv.PRESETS, "fast", preset)
    folder = tmp_path / "fast/mnist-1-vae-1/seed0"
    config = json.loads((folder / "config.json").read_text())
    config["stages"][0][0] = 3
    (folder / "config.json").write_text(json.dumps(config))
    assert findings.find(cell, "fast", 0, tmp_path) == "2 of 3 epochs are done"
    (folder / "checkpoint.npz").unlink()
    assert findings.find(cell, "fast", 0, tmp_path) == "no whole epoch yet"


def test_report_of_nothing_is_2(tmp_path, capsys):
    code, _, err = run(capsys, "report", "--out", tmp_path)
    assert code == 2 and "no runs of the tables are here" in err
