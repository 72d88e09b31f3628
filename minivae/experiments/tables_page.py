"""The page of the paper's tables, made from the runs that are there."""

import json
import warnings
from pathlib import Path

import numpy as np

from .. import plots
from ..engine.files import columns_of, read_json, write_json, write_text
from ..presets import PRESETS
from .findings import (
    ERRORS,
    OF_EVALUATION,
    OF_MACHINE,
    OF_RUN,
    Measured,
    Result,
    claims,
    find,
    ordering,
    row_of,
    seeds_of,
    words_of,
)
from .notes import UNITS, read_notes
from .tables import WEIGHTS, select

SAMPLES = 50  # in a model's picture
OF_MEASURED = (*OF_EVALUATION, *OF_RUN, *OF_MACHINE, "reason")
# the columns of a row that the page cannot do without
KNOWN = {"cell": str, "preset": str, "seed": int, "settings": dict}
KNOWN |= {"nll": float, "nll_se": float, "images": int, "active_units": list}
OF_GROUP = ("learning_curves", "units_over_epochs", "active_units", "bound_against_k")


def write_report(table, out, to):
    """Write a table's page, its rows and its pictures.

    In a folder that is not the runs' own, what it knows of other runs stays: their
    rows, and the pictures that would lack them.

    Parameters
    ----------
    table : str
        Of `TABLES`.
    out, to : path-like
        The folder of all runs; and the one for TABLE.json, table.md and the pictures.

    Returns
    -------
    page : str
        Markdown.
    """
    out, to = Path(out), Path(to)
    to.mkdir(parents=True, exist_ok=True)
    path, rows, orderings, pictures = to / f"{table}.json", [], [], []
    elsewhere = path.exists() and to.parent.resolve() != out.resolve()
    known, before = known_rows(path) if elsewhere else ({}, {})
    for preset in reversed(PRESETS):  # fast is the first
        measured = {}  # cell -> seed -> Measured
        if not (out / preset).is_dir() and preset not in {key[1] for key in known}:
            continue
        for cell in select(table, ["*"]):
            measured[cell] = {}
            seeds = {key[2] for key in known if key[:2] == (cell.name, preset)}
            for seed in sorted(seeds | seeds_of(out, preset, cell)) or [0]:
                found = find(cell, preset, seed, out)
                row = row_of(cell, preset, seed, found)
                result = found if isinstance(found, Result) else None
                if not result:
                    row |= known_of(known.get((cell.name, preset, seed)), row)
                if row["nll"] is not None:
                    measured[cell][seed] = Measured(row, result)
                rows.append(row)
        for claim, *cells in claims(table):
            of_both = (measured[cell] for cell in cells)
            outcome = ordering(*of_both, before.get((claim, preset)))
            names = dict(zip(("lower", "higher"), (cell.name for cell in cells)))
            orderings.append({"claim": claim, "preset": preset} | names | outcome)
        pictures += draw(preset, measured, to)
    write_json(path, {"rows": rows, "orderings": orderings})
    page = page_of(table, rows, orderings, pictures)
    write_text(to / "table.md", page)
    return page


def known_rows(path):
    """What an earlier page has measured: (cell, preset, seed) -> row, and (claim,
    preset) -> outcome.

    Raises
    ------
    ValueError
        If the file is damaged; it names the file.
    """
    page, rows, outcomes = read_json(path), {}, {}
    try:
        for row in page["rows"]:
            if row["nll"] is None:
                continue
            row |= floats(row, ("nll", "nll_se", "difference"))
            for name, kind in KNOWN.items():
                if not isinstance(row[name], kind):
                    raise TypeError(f"{name} is {row[name]!r:.50}")
            rows[row["cell"], row["preset"], row["seed"]] = row
        for entry in page["orderings"]:
            entry |= floats(entry, ("difference", "se"))
            entry["paired"], entry["seeds"] = bool(entry["paired"]), int(entry["seeds"])
            outcomes[entry["claim"], entry["preset"]] = entry
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the rows of a table ({error!r})") from error
    return rows, outcomes


def floats(row, names):
    """These numbers of a row, as JSON has them: one that is infinite is a text."""
    return {name: None if row[name] is None else float(row[name]) for name in names}


def known_of(known, row):
    """What an earlier page has measured of a ``row`` that has no run here: the columns
    that a run fills in.
    """
    if known is None or known["settings"] != json.loads(json.dumps(row["settings"])):
        return {}
    if row["reason"] != "not begun":
        name, seed, reason = (row[name] for name in ("cell", "seed", "reason"))
        text = f"{name}, seed {seed}: its run here: {reason}; what was known is kept"
        warnings.warn(text, stacklevel=2)
    return {name: known.get(name) for name in OF_MEASURED}


def draw(preset, measured, to):
    """The pictures of a preset's cells that are measured, by their first seed: the
    names of the files. Where a run is not here they are not drawn, but those that are
    there stay.
    """
    first = {cell: found[min(found)] for cell, found in measured.items() if found}
    groups = {}  # what is drawn together: name -> cells
    for cell in first:
        start = cell.origin or cell
        stages = any(other.origin == start for other in first)
        name = f"from-{start.name}" if stages else f"{cell.data}-{cell.layers}"
        groups.setdefault(f"{preset}-{name}", []).append(cell)
    names = []
    for group, cells in groups.items():
        if all(first[cell].result for cell in cells):
            draw_group(
                {words_of(cell): first[cell].result for cell in cells}, to / group
            )
        names += [f"{group}-{name}.png" for name in OF_GROUP]
    for cell, found in first.items():
        names.append(f"{preset}-{cell.name}-samples.png")
        if found.result:
            rng = np.random.default_rng(0)
            plots.samples(found.result.run.model, to / names[-1], rng, SAMPLES)
    return [name for name in names if (to / name).exists()]


def draw_group(results, path):
    """The pictures of `OF_GROUP`, of a few cells by their names; ``path`` is what the
    files' names begin with.
    """
    histories, units = {}, {}
    for words, found in results.items():
        histories[words] = counted_on(found.run, found.run.history)
        watched = read_notes(found.run.folder / UNITS, columns_of)
        if "epoch" in watched:
            units[words] = counted_on(found.run, watched)
    evaluations = {words: found.evaluation for words, found in results.items()}
    for name, what in zip(OF_GROUP, (histories, units, evaluations, evaluations)):
        if what:
            getattr(plots, name)(what, Path(f"{path}-{name}.png"))


def counted_on(run, columns):
    """Columns of a run whose epochs are counted on from those of its first stage."""
    before = (run.config["origin"] or {}).get("epoch", 0)
    return columns | {"epoch": [before + epoch for epoch in columns["epoch"]]}


def page_of(table, rows, orderings, pictures):
    """The page, as Markdown."""
    lines = [
        f"# {table.capitalize()[:-1]} {table[-1]} of Burda et al. (2016)",
        "",
        f"NLL in nats, of so many test images, by {WEIGHTS:,} weights of each, +- its"
        " standard error over images; the published NLL, and ours less it; active units"
        " by layer; epochs; minutes of training, by the median epoch. The published"
        " figures of OMNIGLOT are of the published file.",
        "",
        "| cell | preset | seed | images | NLL | published | difference |"
        " active units | published | epochs | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        published = shown(row["published_nll"], ".2f")
        units = (plus(row[name]) for name in ("active_units", "published_active_units"))
        ours, theirs = units
        error = shown(row["nll_se"], ".2f")
        nll = row["reason"] or f"{row['nll']:.2f} +- {error}"
        minutes = shown(row["seconds"] and row["seconds"] / 60, ".0f")
        lines.append(
            f"| {row['cell']} | {row['preset']} | {row['seed']} |"
            f" {shown(row['images'], ',')} | {nll} | {published} |"
            f" {shown(row['difference'], '+.2f')} | {ours} | {theirs} |"
            f" {shown(row['epochs'], '')} | {minutes} |"
        )
    lines += [
        "",
        "## What the paper found",
        "",
        "The difference of two NLLs, with its standard error over images, which are"
        " paired unless the runs are on two machines, and the same difference of active"
        f" units. Undecided: within {ERRORS} standard errors, or within the spread of"
        " the seeds.",
        "",
        "| claim | preset | difference | s.e. | active units | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in orderings:
        if entry["verdict"] == "not run":
            continue
        lines.append(
            f"| {entry['claim']} | {entry['preset']} |"
            f" {shown(entry['difference'], '+.2f')} | {shown(entry['se'], '.3f')}"
            f"{' (unpaired)' if entry['paired'] is False else ''} |"
            f" {shown(entry['active_units_difference'], '+g')} | {entry['seeds']} |"
            f" {entry['verdict']} |"
        )
    machines = {
        f"{row['processor']}; {row['versions']}" for row in rows if row["processor"]
    }
    lines += ["", *(f"Trained on: {machine}." for machine in sorted(machines)), ""]
    lines += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    return "\n".join(lines)


def shown(value, form):
    """``value`` in this format, or a dash for None."""
    return "-" if value is None else format(value, form)


def plus(units):
    """Active units by layer: 17 + 5."""
    return "-" if units is None else " + ".join(map(str, units))
