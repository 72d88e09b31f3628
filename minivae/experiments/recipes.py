"""Which recipe trains best in few epochs? One change at a time, and judged by images
that are neither trained on nor tested on.

The preset fast is what came out of it. A recipe's figure is the mean of a VAE's and an
IWAE's validation NLL, so that it favours neither.
"""

from functools import partial
from math import cos, pi
from pathlib import Path
from statistics import mean

import numpy as np

from ..data import load
from ..engine.files import read_json, write_json, write_text
from ..evaluation import evaluate
from ..model import VAE
from ..training import train
from .common import check_row
from .pool import Job, processes, run_jobs
from .progress import progress_of
from .tables import epochs_of

OBJECTIVES = {"vae-1": ("elbo", 1), "iwae-5": ("iwae", 5)}
SEEDS, VALIDATION, WEIGHTS = (0, 1), 10_000, 500
COLUMNS = {"nll": float, "active_units": list, "training_seconds": float}
BASE = {
    "estimator": "dreg",
    "epochs": 30,
    "batch": 100,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "epsilon": 5e-6,
}


def warmed_up(peak, epochs=30, rising=3):
    """Stages of an epoch each: a cosine from ``peak`` to zero, whose first epochs rise
    to it.
    """
    rates = [peak * (1 + cos(pi * (e + 0.5) / epochs)) / 2 for e in range(epochs)]
    return [
        (1, min(rate, peak * (e + 1) / (rising + 1))) for e, rate in enumerate(rates)
    ]


# name -> what differs from BASE
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
}


def reproduce_recipes(folder):
    """The one-layer MNIST model by each recipe of `RECIPES`, two runs at once, one
    thread each.

    Trained on all but the last 10,000 training images, and measured on those. Each run
    is a run folder of its own below ``folder``; recipes.json and table.md are written
    from those that are done, after Ctrl-C, too.

    Returns
    -------
    table : str
    """
    folder, jobs, runs = Path(folder), {}, {}
    for seed in SEEDS:
        for recipe in RECIPES:
            for model in OBJECTIVES:
                name = f"{recipe}, {model}, seed {seed}"
                path = folder_of(folder, recipe, model, seed)
                jobs[name] = Job(train_recipe, (path, recipe, model, seed))
                runs[name] = path, epochs_of(settings_of(recipe))
    results_in(folder)  # a damaged one is met before the work, not after it
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


def settings_of(recipe):
    """The arguments of `minivae.train`; stages say the epochs and the rates, too."""
    settings = BASE | RECIPES[recipe]
    if "stages" in settings:
        for name in ("epochs", "learning_rate", "schedule"):
            settings.pop(name)
    return settings


def train_recipe(folder, recipe, model, seed):
    """Train a model by a recipe, and measure it, each unless it is done."""
    if (folder / "evaluation.json").exists():
        return
    data = load("mnist", validation=VALIDATION)
    rng, images = np.random.default_rng(seed), data.train_images
    settings = settings_of(recipe)
    bound, k = OBJECTIVES[model]
    run = train(
        VAE(784, rng=rng, x_mean=images.mean(axis=0)), images, bound, k, seed=seed,
        folder=folder, data=data, progress=False, **settings,
    )  # fmt: skip
    trained = run.averaged() if "average" in settings else run.model
    result = evaluate(trained, data.validation_images, WEIGHTS, progress=False)
    seconds = {"training_seconds": sum(run.history["seconds"])}
    write_json(folder / "evaluation.json", result.summary() | seconds)


def results_in(folder):
    """The rows of recipes.json, from the runs that are done."""
    rows = []
    for recipe, changes in RECIPES.items():
        for seed in SEEDS:
            for model in OBJECTIVES:
                path = folder_of(folder, recipe, model, seed) / "evaluation.json"
                if path.exists():
                    result = read_json(path)
                    check_row(path, "it", result, COLUMNS)
                    row = {"recipe": recipe, "changes": changes, "model": model}
                    row |= {"seed": seed, "nll": result["nll"]}
                    row |= {"active_units": result["active_units"][0]}
                    rows.append(row | {"seconds": result["training_seconds"]})
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
