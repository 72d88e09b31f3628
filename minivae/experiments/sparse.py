"""What the sparse backward costs in quality, and saves in time."""

from pathlib import Path

import numpy as np

from ..data import load
from ..engine.files import write_json, write_text
from ..engine.report import say
from ..evaluation import evaluate
from .common import read_rows, train_one_layer

SPARSE_K, SPARSE_BATCH, SPARSE_SEEDS = 50, 100, (0, 1, 2)
SPARSE_EPOCHS = {"all": 5, "sparse": 7}
SPARSE_IMAGES, SPARSE_WEIGHTS = 2000, 1000
SPARSE_COLUMNS = {
    **{"seed": int, "backward": str, "epoch": int},
    **{"seconds": float, "nll": float},
}


def reproduce_sparse(folder, progress=True):
    """What the sparse backward costs in quality, and saves in time.

    The one-layer MNIST model by the IWAE bound, with either backward, evaluated after
    each epoch. The sparse runs are a little longer, to reach where the dense ones end.

    Returns
    -------
    table : str
    """
    folder, data = Path(folder), load("mnist")
    path = folder / "sparse.json"
    rows = read_rows(path, SPARSE_COLUMNS)
    done = {(row["seed"], row["backward"], row["epoch"]) for row in rows}
    for seed in SPARSE_SEEDS:
        for backward, epochs in SPARSE_EPOCHS.items():
            for epoch in range(1, epochs + 1):
                if (seed, backward, epoch) in done:
                    continue
                say(f"backward {backward}, seed {seed}, epoch {epoch}")
                run = train_one_layer(
                    data,
                    seed=seed,
                    k=SPARSE_K,
                    folder=folder / f"{backward}-{seed}",
                    progress=progress,
                    backward=backward,
                    batch=SPARSE_BATCH,
                    epochs=epoch,
                )
                images = data.test_images[:SPARSE_IMAGES]
                partial = run.folder / "evaluation.partial.npz"
                how = {"partial": partial, "progress": progress}
                result = evaluate(run.model, images, SPARSE_WEIGHTS, **how)
                where = {"seed": seed, "backward": backward, "epoch": epoch}
                seconds = sum(run.history["seconds"])
                rows.append(where | {"seconds": seconds, "nll": result.nll})
                write_json(path, {"rows": rows})
    table = sparse_table(rows)
    write_text(folder / "table.md", table)
    return table


def sparse_table(rows):
    """Dense and sparse by seed, as Markdown."""
    epochs = SPARSE_EPOCHS["all"]
    lines = [
        f"IWAE bound, K = {SPARSE_K}, batch {SPARSE_BATCH}, Adam 1e-3, tau = 0.1; NLL"
        f" of the first {SPARSE_IMAGES:,} test images with {SPARSE_WEIGHTS:,} weights,"
        f" after {epochs} epochs",
        "",
        "| seed | dense, NLL | sparse, NLL | sparse - dense | dense, s | sparse, s |"
        " sparse, s to the dense NLL | dense / those |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed in SPARSE_SEEDS:
        curves = {
            backward: np.array(
                [
                    (row["seconds"], row["nll"])
                    for row in rows
                    if row["seed"] == seed and row["backward"] == backward
                ]
            )
            for backward in SPARSE_EPOCHS
        }
        (dense_s, dense), (sparse_s, sparse) = (
            curve[epochs - 1] for curve in curves.values()
        )
        reached = seconds_to(dense, *curves["sparse"].T)
        lines.append(
            f"| {seed} | {dense:.2f} | {sparse:.2f} | {sparse - dense:+.2f} |"
            f" {dense_s:.0f} | {sparse_s:.0f} | {reached:.0f} |"
            f" {dense_s / reached:.2f} |"
        )
    return "\n".join(lines)


def seconds_to(target, seconds, nll):
    """When a curve of NLL first comes down to ``target``, by straight lines between its
    points; NaN if it does not.
    """
    for i in range(1, len(nll)):
        if nll[i] <= target:
            fraction = max(0, (nll[i - 1] - target) / (nll[i - 1] - nll[i]))
            return seconds[i - 1] + fraction * (seconds[i] - seconds[i - 1])
    return np.nan
