"""Which recipe trains best in few epochs? One change at a time, and judged by images
that are neither trained on nor tested on.

The preset fast is what came out of it. A recipe's figure is the mean of a VAE's and an
IWAE's validation NLL, so that it favours neither.
"""

import json
from functools import partial
from itertools import product
from math import cos, pi
from pathlib import Path
from statistics import mean

import numpy as np

from ..data import load
from ..engine.files import read_json, write_json, write_text
from ..evaluation import evaluate
from ..model import VAE
from ..training import train
from .common import check_row, read_rows
from .pool import Job, processes, run_jobs
from .progress import progress_of
from .tables import epochs_of

OBJECTIVES = {"vae-1": ("elbo", 1), "iwae-5": ("iwae", 5)}
SEEDS, VALIDATION, WEIGHTS = (0, 1), 10_000, 500
COLUMNS = {"nll": float, "active_units": list, "training_seconds": float}
OF_ROWS = {"recipe": str, "changes": dict, "model": str, "seed": int, "nll": float}
OF_ROWS |= {"active_units": int, "seconds": float}
BASE = {
    "estimator": "dreg",
    "epochs": 30,
    "batch": 100,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "epsilon": 5e-6,
}


def by_epoch(peak, epochs=30):
    """Stages of an epoch each: a cosine from ``peak`` to zero."""
    return [(1, peak * (1 + cos(pi * (e + 0.5) / epochs)) / 2) for e in range(epochs)]


def warmed_up(peak, epochs=30, rising=3):
    """`by_epoch`, whose first epochs rise to it."""
    return [
        (1, min(rate, peak * (e + 1) / (rising + 1)))
        for e, (_, rate) in enumerate(by_epoch(peak, epochs))
    ]


# name -> what differs from BASE. Besides arguments of `minivae.train`: "weights", by
# which the initial ones are multiplied; "output_bias", if not the mean image's; "then",
# what differs in a second run, which begins where the first ends, with a fresh Adam
RECIPES = {
    "base": {},
    "rate 1e-3": {"learning_rate": 1e-3},
    "rate 3e-3": {"learning_rate": 3e-3},
    "three epochs of warm-up to 4e-3": {"stages": warmed_up(4e-3)},
    "batch 50": {"batch": 50},
    "batch 20, rate 1e-3": {"batch": 20, "learning_rate": 1e-3},
    "batch 20, rate 1.5e-3": {"batch": 20, "learning_rate": 1.5e-3},
    "batch 20": {"batch": 20},
    "batch 20, three epochs of warm-up to 2e-3": dict(batch=20, stages=warmed_up(2e-3)),
    "batch 10, rate 1e-3": {"batch": 10, "learning_rate": 1e-3},
    "batch 50, rate 4e-3, epsilon 3e-4": dict(
        batch=50, learning_rate=4e-3, epsilon=3e-4
    ),
    "reparam": {"estimator": "reparam"},
    "averaged parameters": {"average": 0.999},
    "100 epochs": {"epochs": 100},
    "100 epochs, batch 20, rate 1.5e-3": dict(
        epochs=100, batch=20, learning_rate=1.5e-3
    ),
    "328 epochs, batch 50": {"epochs": 328, "batch": 50},  # the preset fast
    "initial weights halved": {"weights": 0.5},
    "initial weights doubled": {"weights": 2.0},
    "initial output bias zero": {"output_bias": 0.0},
    "a rate for each epoch": {"stages": by_epoch(2e-3)},
    "a fresh Adam for the last ten epochs": dict(
        stages=by_epoch(2e-3)[:20], then={"stages": by_epoch(2e-3)[20:]}
    ),
    "a fresh Adam and batch 400 for the last ten epochs": dict(
        stages=by_epoch(2e-3)[:20], then={"stages": by_epoch(2e-3)[20:], "batch": 400}
    ),
}
OF_THE_START = ("weights", "output_bias")


def reproduce_recipes(folder):
    """The one-layer MNIST model by each recipe of `RECIPES`, two runs at once, one
    thread each.

    Trained on all but the last 10,000 training images, and measured on those. Each run
    is a run folder of its own below ``folder``; recipes.json and table.md are written
    from those that are done, after Ctrl-C, too. What recipes.json has is done.

    Returns
    -------
    table : str
    """
    folder, jobs, runs = Path(folder), {}, {}
    # a damaged result is met here, before the work and not after it
    done = {(row["recipe"], row["model"], row["seed"]) for row in results_in(folder)}
    for seed, recipe, model in product(SEEDS, RECIPES, OBJECTIVES):
        if (recipe, model, seed) not in done:
            name = f"{recipe}, {model}, seed {seed}"
            path = folder_of(folder, recipe, model, seed)
            jobs[name] = Job(train_recipe, (path, recipe, model, seed))
            runs[name] = path, epochs_of(parts_of(recipe)[-1])
    with progress_of(runs) as watch:
        try:
            failed = run_jobs(jobs, partial(processes, 2, 1), 1, watch)
        finally:
            table = write_recipes(folder)
    for error in failed.values():  # each has been said
        raise error
    return table


def folder_of(folder, recipe, model, seed):
    """The run's folder."""
    return folder / f"{recipe.replace(', ', '-').replace(' ', '-')}-{model}-seed{seed}"


def parts_of(recipe):
    """The arguments of `minivae.train`, for each of a recipe's runs, one or two; stages
    say the epochs and the rates, too.
    """
    settings = BASE | RECIPES[recipe]
    then = settings.pop("then", None)
    parts = [settings] if then is None else [settings, settings | then]
    for settings in parts:
        for name in OF_THE_START:
            settings.pop(name, None)
        if "stages" in settings:
            for name in ("epochs", "learning_rate", "schedule"):
                settings.pop(name)
    return parts


def start_of(recipe, images, seed):
    """The model before its training."""
    model = VAE(784, rng=np.random.default_rng(seed), x_mean=images.mean(axis=0))
    changes, bias = RECIPES[recipe], model.params["p1.logits.b"]
    bias[...] = changes.get("output_bias", bias)
    for name, array in model.params.items():
        if name.endswith(".W"):
            array *= changes.get("weights", 1)
    return model


def train_recipe(folder, recipe, model, seed):
    """Train a model by a recipe, and measure it, each unless it is done."""
    if (folder / "evaluation.json").exists():
        return
    data, seconds = load("mnist", validation=VALIDATION), 0.0
    images, parts = data.train_images, parts_of(recipe)
    trained = start_of(recipe, images, seed)
    places = [folder / "first", folder][-len(parts) :]
    for settings, place in zip(parts, places):
        # a second run has noise of its own
        how = {"seed": seed + len(SEEDS) * (place != places[0]), "folder": place}
        how |= {"data": data, "progress": False} | settings
        run = train(trained, images, *OBJECTIVES[model], **how)
        trained = run.averaged() if "average" in settings else run.model
        seconds += sum(run.history["seconds"])
    result = evaluate(trained, data.validation_images, WEIGHTS, progress=False)
    found = result.summary() | {"training_seconds": seconds}
    write_json(folder / "evaluation.json", found)


def results_in(folder):
    """The rows of recipes.json: of the runs that are done, and what it has of others,
    whose folders are elsewhere.
    """
    rows, known, path = [], {}, folder / "recipes.json"
    base = read_json(path).get("base") if path.exists() else None
    for row in read_rows(path, OF_ROWS):
        # compared as JSON, where a list has become of a tuple
        now = json.dumps([BASE, RECIPES.get(row["recipe"])])
        if json.dumps([base, row["changes"]]) == now:
            known[row["recipe"], row["model"], row["seed"]] = row
    for recipe, seed, model in product(RECIPES, SEEDS, OBJECTIVES):
        path = folder_of(folder, recipe, model, seed) / "evaluation.json"
        if path.exists():
            result = read_json(path)
            check_row(path, "it", result, COLUMNS)
            row = {"recipe": recipe, "changes": RECIPES[recipe], "model": model}
            row |= {"seed": seed, "nll": result["nll"]}
            row |= {"active_units": result["active_units"][0]}
            known[recipe, model, seed] = row | {"seconds": result["training_seconds"]}
        if (recipe, model, seed) in known:
            rows.append(known[recipe, model, seed])
    return rows


def write_recipes(folder):
    """recipes.json and table.md; the table."""
    rows = results_in(folder)
    write_json(folder / "recipes.json", {"base": BASE, "rows": rows})
    table = recipes_table(rows)
    write_text(folder / "table.md", table)
    return table


def recipes_table(rows):
    """The recipes as Markdown, the best first; those not run at the end."""

    def of(recipe, column, model=None):
        return [
            row[column]
            for row in rows
            if row["recipe"] == recipe and model in (None, row["model"])
        ]

    def figure(recipe):
        """The mean over the models, or None if one is missing."""
        by_model = [of(recipe, "nll", model) for model in OBJECTIVES]
        return mean(map(mean, by_model)) if all(by_model) else None

    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    lines = [
        f"Base: {base}. One thread each; NLL in nats of the {VALIDATION:,} validation"
        f" images with {WEIGHTS} weights, by seed; active units; minutes of training",
        "",
        "| recipe | mean | VAE, k = 1 | IWAE, k = 5 | active units | minutes |",
        "|---|---|---|---|---|---|",
    ]
    last = float("inf")
    for recipe in sorted(RECIPES, key=lambda name: figure(name) or last):
        by_seed = [
            ", ".join(f"{nll:.2f}" for nll in of(recipe, "nll", model)) or "-"
            for model in OBJECTIVES
        ]
        units = "; ".join(
            ", ".join(map(str, of(recipe, "active_units", model))) or "-"
            for model in OBJECTIVES
        )
        minutes = [
            f"{mean(seconds) / 60:.0f}" if seconds else "-"
            for seconds in (of(recipe, "seconds", model) for model in OBJECTIVES)
        ]
        value = figure(recipe)
        lines.append(
            f"| {recipe} | {'-' if value is None else f'{value:.2f}'} |"
            f" {' | '.join(by_seed)} | {units} | {', '.join(minutes)} |"
        )
    return "\n".join(lines)
