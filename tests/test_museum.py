"""The museum of bugs: each still applies, and its table is what the checks say."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from minivae.experiments import checks, kl_weight, museum
from minivae.experiments.exhibits import ALL_ONES, EXHIBITS, edited, side_by_side

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
CHAPTER = (ROOT / "derivations/27_museum.md").read_text(encoding="utf-8")
SLOW = ("exact model", "mean gradient")


@cache
def program(name, bug=None):
    return checks.program(name, EXHIBITS.get(bug))


def results(folder, name):
    return json.loads((RESULTS / folder / f"{name}.json").read_text())


MUSEUM = results("museum", "museum")
CURVES = {row["program"]: row for row in MUSEUM["rows"]}


@pytest.mark.parametrize("name", [*EXHIBITS, "a check that is a bug itself: all ones"])
def test_a_bug_applies_and_its_chapter_shows_it(name):
    exhibit = EXHIBITS.get(name, ALL_ONES)
    compile(edited(exhibit.file, exhibit.edits), exhibit.file, "exec")
    shown = f"\n\n```text\n{side_by_side(exhibit)}```\n"
    before, found, _ = CHAPTER.partition(shown)
    assert found and before.splitlines()[-1].lower() == f"## {name.lower()}"


def test_a_bug_that_does_not_apply_is_named():
    with pytest.raises(ValueError, match="minimal.py has 'no such line' 0 times"):
        edited("minimal.py", {"no such line": ""})


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, marks=[pytest.mark.slow] if check in SLOW else [])
        for check in checks.CHECKS
    ],
)
def test_which_bugs_a_check_sees(check):
    """The right programs pass; of the others, as the committed table says."""
    passes = checks.CHECKS[check]
    for name in checks.PROGRAMS:
        assert passes(program(name)), name
    for name, exhibit in EXHIBITS.items():
        seen = not passes(program(exhibit.program, name))
        assert seen == MUSEUM["sees"][name][check], name


def test_tables_are_the_numbers():
    table = museum.museum_table(MUSEUM["sees"], CURVES)
    assert (RESULTS / "museum/table.md").read_text() == table + "\n"
    for part in table.split("\n\n"):
        assert part.strip() in CHAPTER
    rows = results("kl_weight", "kl-weight")["rows"]
    assert [row["run"] for row in rows] == list(kl_weight.RUNS)
    table = kl_weight.kl_table(rows)
    assert (RESULTS / "kl_weight/table.md").read_text() == table + "\n"


def test_what_chapter_27_says_of_the_numbers():
    seen = {
        check: sum(row[check] for row in MUSEUM["sees"].values())
        for check in checks.CHECKS
    }
    assert len(EXHIBITS) == 14 and "Of fourteen bugs they see one" in CHAPTER
    assert seen["finite differences"] == seen["all ones"] == 1
    assert (seen["exact model"], seen["SciPy, large logits"]) == (9, 10)
    unseen = [name for name, row in MUSEUM["sees"].items() if not any(row.values())]
    assert unseen == ["resumed without moments", "grey pixels"]
    right, log_k = CURVES["iwae"], CURVES["log K forgotten"]
    assert log_k["bound"] == right["bound"]  # the same training, to the last bit
    more = np.subtract(log_k["reported"], right["reported"])
    assert np.allclose(more, np.log(museum.K)) and museum.K == 6

    falling = [n for n in EXHIBITS if (np.diff(CURVES[n]["reported"]) < 0).any()]
    assert falling == ["x repeated in the wrong order"]
    worst = sorted(EXHIBITS, key=lambda name: CURVES[name]["bound"][-1])
    best = sorted(EXHIBITS, key=lambda name: -CURVES[name]["reported"][-1])
    assert {*worst[:2]} == {*best[:2]} and "softmax of the loss" in worst[:3]
    seeds = [curve["bound"][-1] for name, curve in CURVES.items() if "iwae" in name]
    harm = [min(seeds) - CURVES[name]["bound"][-1] for name in worst]
    assert harm[2] > 1 and harm[3] < 0.5 and np.ptp(seeds) < 0.5


def test_what_chapter_26_says_of_kl_weights():
    runs = {row["run"]: row for row in results("kl_weight", "kl-weight")["rows"]}
    ends = {
        name: {curve: row[curve][-1] for curve in kl_weight.CURVES}
        for name, row in runs.items()
    }
    elbo, low = ends["the ELBO"], ends["beta = 0.1"]
    assert ends["beta = 196"]["active_units"] == 0 and elbo["active_units"] == 8
    assert 4.5 < low["kl"] / elbo["kl"] < 5.5 and 6 < low["nll"] - elbo["nll"] < 8
    assert max(row["reconstruction"] for row in ends.values()) == low["reconstruction"]
    for name, units, nll in (("warm-up", 15, 39.9), ("free bits", 20, 40.4)):
        assert ends[name]["active_units"] == units
        assert round(ends[name]["nll"], 1) == nll < round(elbo["nll"], 1) == 40.6
    bound = {name: row["reconstruction"] - row["kl"] for name, row in ends.items()}
    assert 0.8 < bound["the ELBO"] - bound["free bits"] < 1.5
