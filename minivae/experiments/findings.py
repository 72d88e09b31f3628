"""What the runs of the paper's tables have measured, and whether it is as the paper has
it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import product
from math import hypot, isclose
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import numpy as np

from ..results import Evaluation, standard_error
from ..runs import Run, load_run
from .notes import MACHINE, read_machine, read_notes
from .tables import (
    IWAE_50,
    OBJECTIVES,
    PUBLISHED,
    TABLES,
    VAE_1,
    WEIGHTS,
    Cell,
    command_of,
    epochs_of,
    folder_of,
    settings_of,
)

ERRORS = 2  # standard errors that a difference must have, or it is undecided
OUT, DATA = Path("runs/tables"), Path("omniglot.npz")  # in a row's command
OF_EVALUATION = ("nll", "nll_se", "bounds", "active_units", "images", "x_digest")
OF_RUN = ("unit_variances", "difference", "epochs", "last_bounds", "seconds")
OF_MACHINE = ("processor", "versions")


@dataclass
class Result:
    """A cell that is there, with one seed."""

    run: Run
    evaluation: Evaluation
    machine: dict = field(default_factory=dict)


class Measured(NamedTuple):
    """A row with an NLL, and what it was made from, unless that run is elsewhere."""

    row: dict
    result: Result | None = None


def seeds_of(out, preset, cell):
    """The seeds of which there is a folder."""
    folders = folder_of(out, preset, cell, 0).parent.glob("seed*")
    seeds = [re.fullmatch(r"seed(\d+)", path.name) for path in folders]
    return {int(seed[1]) for seed in seeds if seed}


def find(cell, preset, seed, out):
    """The `Result` of a cell, or a text that says why there is none."""
    folder = folder_of(out, preset, cell, seed)
    if not (folder / "checkpoint.npz").exists():
        return "no whole epoch yet" if folder.is_dir() else "not begun"
    try:
        return found_in(folder, cell, preset, seed)
    except (ValueError, OSError) as error:
        return f"not readable: {error}"


def found_in(folder, cell, preset, seed):
    """`find`, where there is a checkpoint.

    Raises
    ------
    ValueError, OSError
        If a file is damaged or missing; it names the file.
    """
    run, settings = load_run(folder), settings_of(cell, preset)
    config, start = run.config, cell.origin
    origin = config.get("origin") or {}
    for what, is_, should_be in (
        ("data", config.get("data") == "mnist", cell.data == "mnist"),
        ("layers", len(run.model.latent_dims), cell.layers),
        ("bound", config["bound"], cell.bound),
        ("k", config["k"], cell.k),
        ("seed", config.get("seed"), seed),
        ("origin", origin.get("bound"), start and start.bound),
        ("origin", origin.get("k"), start and start.k),
    ):
        if is_ != should_be:
            return f"the run in this folder is another: it has another {what}"
    wanted = {name: value for name, value in settings.items() if name in run.config}
    stages = settings.get("stages")
    stages = stages or [(settings["epochs"], settings["learning_rate"])]
    wanted["stages"] = [[*stage] for stage in stages]
    for name, value in wanted.items():
        if run.config.get(name) != value:
            was = run.config.get(name)
            return f"{name} was {was}, is {value} in preset {preset} now"
    done, epochs = len(run.history["epoch"]), epochs_of(settings)
    if done < epochs:
        return f"{done} of {epochs} epochs are done"
    kept = [
        Evaluation.load(path)
        for path in folder.glob(f"evaluation_*_images_k_{WEIGHTS}.npz")
        if path.name.split("_")[2] == "images"  # and not train_images
    ]
    digest = run.model.params.digest()
    kept = [evaluation for evaluation in kept if evaluation.params_digest == digest]
    if not kept:
        return "trained, but not evaluated"
    # of a run that was made by hand there is no machine
    machine = read_notes(folder / MACHINE, read_machine)
    return Result(run, max(kept, key=lambda evaluation: evaluation.images), machine)


def row_of(cell, preset, seed, found):
    """A row of TABLE.json. What was not measured is None, and the reason is said."""
    nll, units = PUBLISHED.get(cell.name, (None, None))
    row = {
        "cell": cell.name,
        "data": cell.data,
        "layers": cell.layers,
        "bound": cell.bound,
        "k": cell.k,
        "origin": cell.origin and cell.origin.name,
        "preset": preset,
        "seed": seed,
        "published_nll": nll,
        "published_active_units": units,
        "command": command_of(cell, preset=preset, seed=seed, out=OUT, data_path=DATA),
        "settings": settings_of(cell, preset),
    }
    if not isinstance(found, Result):
        missing = dict.fromkeys(OF_EVALUATION + OF_RUN + OF_MACHINE)
        return row | missing | {"reason": found}
    run, evaluation = found.run, found.evaluation
    seconds = run.history["seconds"]
    values = {name: getattr(evaluation, name) for name in OF_EVALUATION}
    values |= {
        "unit_variances": [layer.tolist() for layer in evaluation.unit_variances],
        "difference": None if nll is None else evaluation.nll - nll,
        "epochs": len(seconds),
        "last_bounds": {
            column: run.history.get(column, [None])[-1]
            for column in ("bound", "test_bound")
        },
        # an epoch that was paused took longer than it takes
        "seconds": len(seconds) * median(seconds),
        **dict.fromkeys(OF_MACHINE),
        **found.machine,
    }
    return row | values | {"reason": None}


def claims(table):
    """What the paper found: a sentence, the cell whose NLL is lower, and the other."""
    if table == "table2":
        to_iwae, vae_again, to_vae, iwae_again = TABLES[table]
        return [
            (
                f"{words_of(VAE_1)} -> {words_of(IWAE_50)} lowers NLL",
                to_iwae,
                vae_again,
            ),
            (
                f"{words_of(IWAE_50)} -> {words_of(VAE_1)} raises NLL",
                iwae_again,
                to_vae,
            ),
        ]
    found = []
    for data, layers in product(("mnist", "omniglot"), (1, 2)):
        where = f"{data}, {layers} layer{'s' * (layers > 1)}"
        vae_1, vae_5, vae_50, iwae_5, iwae_50 = (
            Cell(data, layers, *objective) for objective in OBJECTIVES
        )
        found += [
            (f"{where}: IWAE below VAE, k = 5", iwae_5, vae_5),
            (f"{where}: IWAE below VAE, k = 50", iwae_50, vae_50),
            (f"{where}: IWAE falls from k = 1 to 5", iwae_5, vae_1),
            (f"{where}: IWAE falls from k = 5 to 50", iwae_50, iwae_5),
        ]
    for data, objective in product(("mnist", "omniglot"), OBJECTIVES):
        one, two = (Cell(data, layers, *objective) for layers in (1, 2))
        found.append((f"{data}, {words_of(one)}: two layers below one", two, one))
    return found


def ordering(lower, higher, before=None):
    """Whether NLL is lower where the paper says.

    Parameters
    ----------
    lower, higher : dict
        Seed -> `Measured`.
    before : dict, optional
        What this has returned before: of the same NLLs, its standard error is taken
        where a run is elsewhere, so that its images cannot be paired any more.

    Returns
    -------
    outcome : dict
        "difference", the lower NLL less the higher one, a mean over the seeds that both
        have, which is negative if the paper is right; its standard error "se" over
        images; whether these are "paired"; the same difference of active units; and the
        "verdict". That is "undecided" within two standard errors, and where an NLL of
        one cell lies among those of the other.
    """
    seeds = sorted(lower.keys() & higher.keys())
    names = ("difference", "se", "paired", "active_units_difference")
    nothing = dict.fromkeys(names) | {"seeds": 0}
    if not seeds:
        return nothing | {"verdict": "not run"}
    pairs = [(lower[seed], higher[seed]) for seed in seeds]
    paired = all(found.result for pair in pairs for found in pair)
    if paired:
        both = [[found.result.evaluation for found in pair] for pair in pairs]
        try:
            for one, other in both:
                one.paired_difference(other)
        except ValueError:
            return nothing | {"verdict": "of other images"}
        by_image = np.mean([other.log_p - one.log_p for one, other in both], axis=0)
        difference, se = float(by_image.mean()), float(standard_error(by_image))
    else:
        if not all(of_same_images(one.row, other.row) for one, other in pairs):
            return nothing | {"verdict": "of other images"}
        difference = mean(one.row["nll"] - other.row["nll"] for one, other in pairs)
        errors = [[found.row["nll_se"] for found in pair] for pair in pairs]
        se = mean(hypot(*pair) for pair in errors)
        if before and before["paired"] and before["seeds"] == len(seeds):
            paired = isclose(before["difference"], difference, abs_tol=1e-9)
            if paired:
                difference, se = before["difference"], before["se"]
    units = [
        sum(one.row["active_units"]) - sum(other.row["active_units"])
        for one, other in pairs
    ]
    nll = [[found.row["nll"] for found in cell.values()] for cell in (lower, higher)]
    apart = max(nll[0]) < min(nll[1]) or max(nll[1]) < min(nll[0])
    verdict = "holds" if difference < 0 else "reversed"
    if abs(difference) <= ERRORS * se or not apart:
        verdict = "undecided"
    return {
        **dict(zip(names, (difference, se, paired, mean(units)))),
        "seeds": len(seeds),
        "verdict": verdict,
    }


def of_same_images(one, other):
    """Whether two rows are, as far as they know."""
    digests = {row.get("x_digest") for row in (one, other)} - {None}
    return one["images"] == other["images"] and len(digests) < 2


def words_of(cell):
    """As "VAE, k = 1 -> IWAE, k = 50"."""
    words = f"{'VAE' if cell.bound == 'elbo' else 'IWAE'}, k = {cell.k}"
    return f"{words_of(cell.origin)} -> {words}" if cell.origin else words
