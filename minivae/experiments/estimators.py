"""How well each estimator trains: the same model, steps and seeds."""

from math import ceil
from pathlib import Path

import numpy as np

from ..data import load
from ..engine.files import read_json, write_json, write_text
from ..engine.registry import ESTIMATORS
from ..engine.report import say
from ..evaluation import evaluate
from .common import check_row, train_one_layer

RUN_K, RUN_BATCH, RUN_EPOCHS, RUN_SEEDS = 50, 20, 1, (0, 1)
RUN_IMAGES, RUN_WEIGHTS = 1000, 1000
RUN_COLUMNS = {"nll": float, "active_units": list, "training_seconds": float}


def reproduce_estimators(folder, progress=True):
    """The one-layer MNIST model trained by each estimator: steps and seeds the same.

    Each run is a run folder of its own below ``folder``; the results are collected in
    estimators.json and table.md.

    Returns
    -------
    table : str
    """
    folder, data, rows = Path(folder), load("mnist"), []
    for seed in RUN_SEEDS:
        for estimator in ESTIMATORS:
            run_folder = folder / f"{estimator}-{seed}"
            result_path = run_folder / "evaluation.json"
            if not result_path.exists():
                say(f"{estimator}, seed {seed}")
                run = train_one_layer(
                    data,
                    seed=seed,
                    k=RUN_K,
                    folder=run_folder,
                    progress=progress,
                    estimator=estimator,
                    epochs=RUN_EPOCHS,
                    batch=RUN_BATCH,
                    **({"m": RUN_K // 5} if estimator == "piwae" else {}),
                )
                images = data.test_images[:RUN_IMAGES]
                result = evaluate(
                    run.model,
                    images,
                    RUN_WEIGHTS,
                    partial=run_folder / "evaluation.partial.npz",
                    progress=progress,
                )
                seconds = {"training_seconds": sum(run.history["seconds"])}
                write_json(result_path, result.summary() | seconds)
            result = read_json(result_path)
            check_row(result_path, "it", result, RUN_COLUMNS)
            rows.append(
                {
                    "estimator": estimator,
                    "seed": seed,
                    "nll": result["nll"],
                    "active_units": result["active_units"][0],
                    "seconds": result["training_seconds"],
                }
            )
    write_json(folder / "estimators.json", {"rows": rows})
    steps = RUN_EPOCHS * ceil(len(data.train_images) / RUN_BATCH)
    table = estimators_table(rows, steps)
    write_text(folder / "table.md", table)
    return table


def estimators_table(rows, steps):
    """The runs by estimator, as Markdown; best NLL first."""
    by_estimator = {}
    for row in rows:
        by_estimator.setdefault(row["estimator"], []).append(row)
    lines = [
        f"IWAE bound, K = {RUN_K}, {steps:,} steps at batch {RUN_BATCH}, Adam 1e-3,"
        f" seeds {', '.join(map(str, RUN_SEEDS))}; NLL of the first {RUN_IMAGES:,} test"
        f" images with {RUN_WEIGHTS:,} weights",
        "",
        "| estimator | NLL, nats | by seed | active units | seconds |",
        "|---|---|---|---|---|",
    ]

    def mean(estimator, column):
        return np.mean([row[column] for row in by_estimator[estimator]])

    for estimator in sorted(by_estimator, key=lambda name: mean(name, "nll")):
        runs = by_estimator[estimator]
        each = ", ".join(f"{row['nll']:.2f}" for row in runs)
        units = ", ".join(str(row["active_units"]) for row in runs)
        lines.append(
            f"| {estimator} | {mean(estimator, 'nll'):.2f} | {each} | {units} |"
            f" {mean(estimator, 'seconds'):.0f} |"
        )
    return "\n".join(lines)
