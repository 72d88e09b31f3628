"""The page of the paper's tables, made from the runs that are there."""

from pathlib import Path

import numpy as np

from .. import plots
from ..engine.files import columns_of, write_json, write_text
from ..presets import PRESETS
from .findings import ERRORS, Result, claims, find, ordering, row_of, seeds_of, words_of
from .notes import UNITS, read_notes
from .tables import WEIGHTS, select

SAMPLES = 50  # in a model's picture


def write_report(table, out, to):
    """Write a table's page, its rows and its pictures.

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
    rows, orderings, pictures = [], [], []
    for preset in PRESETS:
        if not (out / preset).is_dir():
            continue
        results = {}  # cell -> seed -> Result
        for cell in select(table, ["*"]):
            results[cell] = {}
            for seed in seeds_of(out, preset, cell):
                found = find(cell, preset, seed, out)
                if isinstance(found, Result):
                    results[cell][seed] = found
                rows.append(row_of(cell, preset, seed, found))
        for claim, *cells in claims(table):
            outcome = ordering(*(results[cell] for cell in cells))
            names = dict(zip(("lower", "higher"), (cell.name for cell in cells)))
            orderings.append({"claim": claim, "preset": preset} | names | outcome)
        pictures += draw(preset, results, to)
    write_json(to / f"{table}.json", {"rows": rows, "orderings": orderings})
    page = page_of(table, rows, orderings, pictures)
    write_text(to / "table.md", page)
    return page


def draw(preset, results, to):
    """The pictures of a preset's cells that are there, by their first seed: the names
    of the files.
    """
    first = {cell: found[min(found)] for cell, found in results.items() if found}
    groups = {}  # what is drawn together: name -> cells
    for cell in first:
        start = cell.origin or cell
        stages = any(other.origin == start for other in first)
        name = f"from-{start.name}" if stages else f"{cell.data}-{cell.layers}"
        groups.setdefault(f"{preset}-{name}", []).append(cell)
    names = []
    for group, cells in groups.items():
        evaluations = {words_of(cell): first[cell].evaluation for cell in cells}
        histories = {
            words_of(cell): counted_on(first[cell].run, first[cell].run.history)
            for cell in cells
        }
        watched = {
            cell: read_notes(first[cell].run.folder / UNITS, columns_of)
            for cell in cells
        }
        units = {
            words_of(cell): counted_on(first[cell].run, columns)
            for cell, columns in watched.items()
            if "epoch" in columns
        }
        for name, what in (
            ("learning_curves", histories),
            ("units_over_epochs", units),
            ("active_units", evaluations),
            ("bound_against_k", evaluations),
        ):
            if what:
                names.append(f"{group}-{name}.png")
                getattr(plots, name)(what, to / names[-1])
    for cell, found in first.items():
        names.append(f"{preset}-{cell.name}-samples.png")
        rng = np.random.default_rng(0)
        plots.samples(found.run.model, to / names[-1], rng, SAMPLES)
    return names


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
        " paired, and the same difference of active units. Undecided: within"
        f" {ERRORS} standard errors, or within the spread of the seeds.",
        "",
        "| claim | preset | difference | s.e. | active units | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in orderings:
        lines.append(
            f"| {entry['claim']} | {entry['preset']} |"
            f" {shown(entry['difference'], '+.2f')} | {shown(entry['se'], '.3f')} |"
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
