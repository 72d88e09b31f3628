"""The family measured: how noisy each estimator's gradient is, and how well it trains.

Each experiment writes its raw numbers as it goes, one row at a time, and takes up the
rows that are there: it can be stopped and started again. Its table and its picture come
from that file alone.
"""

from math import ceil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import plots
from .checkpoint import read_json, write_atomically, write_json
from .data import binarize, load
from .estimators import ESTIMATORS
from .evaluate import evaluate
from .gradient import bound_and_grad
from .model import VAE
from .train import generator, train

# Signal to noise. An estimator without bias shares its mean with `dreg`, which shows it
# with far less noise; `rws` with `rws-dreg`.
SNR_SAMPLES = tuple(2**i for i in range(11))
SNR_FIT = 16  # slopes are fitted to this many samples and more
SNR_REPLICATES = {"toy": 2000, "mnist": 200}
SNR_EPOCHS = 3
SIGNAL_OF = {"reparam": "dreg", "score": "dreg", "vimco": "dreg", "rws": "rws-dreg"}
GROUP = 8  # samples in a group of piwae, whose bound then stays as K grows

# The estimators' training runs
RUN_K, RUN_BATCH, RUN_EPOCHS, RUN_SEEDS = 50, 20, 1, (0, 1)
RUN_IMAGES, RUN_WEIGHTS = 1000, 1000

# The sparse backward against the dense one
SPARSE_K, SPARSE_BATCH, SPARSE_SEEDS = 50, 100, (0, 1, 2)
SPARSE_EPOCHS = {"all": 5, "sparse": 7}
SPARSE_IMAGES, SPARSE_WEIGHTS = 2000, 1000


def toy_model(rng, x_dim=20):
    """The linear-Gaussian model of Rainforth et al. 2018, section 4, and one x.

    p(z) = N(b, I) and p(x|z) = N(z, I) there; here b is the decoder's bias, which is
    the same p(x, z) with z shifted. q(z|x) = N(A x + c, 2/3 I). The best q has A = I/2
    and sigma^2 = 1/2: this one is near it, A, c and p's parameters off by N(0, 0.01^2).
    Unlike there, theta includes p's matrix, and phi includes q's log_sigma.

    Returns
    -------
    model : VAE
    x : ndarray of shape (1, x_dim)
    """
    model = VAE(
        x_dim,
        (x_dim,),
        ((),),
        likelihood="gaussian",
        x_sigma=1.0,
        dtype=np.float64,
        rng=rng,
    )
    b = rng.standard_normal(x_dim)
    best = {
        "p1.mu.W": np.eye(x_dim),
        "p1.mu.b": b,
        "q1.mu.W": np.eye(x_dim) / 2,
        "q1.mu.b": -b / 2,
        "q1.log_sigma.W": np.zeros((x_dim, x_dim)),
        "q1.log_sigma.b": np.full(x_dim, np.log(2 / 3) / 2),
    }
    for name, array in best.items():
        model.params[name][...] = array
        if ".mu." in name:
            model.params[name][...] += 0.01 * rng.standard_normal(array.shape)
    x = b + np.sqrt(2) * rng.standard_normal((1, x_dim))
    return model, x


def gradient_moments(model, x, k, estimator, replicates, seed=0):
    """Signal and noise of the gradient of the IWAE bound, for theta and for phi.

    Returns
    -------
    moments : dict
        "theta_signal2" and "phi_signal2", the squared norm of the mean without the part
        that the noise of ``replicates`` draws adds to it (so it can be below zero), and
        "theta_noise2" and "phi_noise2", the variances summed over parameters: the
        squares of eq. 22.1's two sides.
    """
    options = {}
    if estimator == "piwae":
        options["m"] = max(1, k // GROUP)
    if estimator == "score":  # a baseline from other draws of the same bound
        others = (generator(seed, k, r) for r in range(replicates, replicates + 100))
        eps = (model.draw_eps(len(x), k, rng) for rng in others)
        values = [bound_and_grad(model, x, e, "iwae")[0] for e in eps]
        options["baseline"] = float(np.mean(values))
    total = {name: np.zeros(p.shape) for name, p in model.params.items()}
    squares = {name: np.zeros(p.shape) for name, p in model.params.items()}
    for r in range(replicates):
        eps = model.draw_eps(len(x), k, generator(seed, k, r))
        _, grads = bound_and_grad(model, x, eps, "iwae", estimator, **options)
        for name, g in grads.items():
            total[name] += g
            squares[name] += np.square(g, dtype=np.float64)
    moments = {}
    for group, network in (("theta", "p"), ("phi", "q")):
        names = [name for name in model.params if name.startswith(network)]
        mean2 = sum((total[name] ** 2).sum() for name in names) / replicates**2
        raw2 = sum(squares[name].sum() for name in names) / replicates
        noise2 = (raw2 - mean2) * replicates / (replicates - 1)
        moments[f"{group}_signal2"] = float(mean2 - noise2 / replicates)
        moments[f"{group}_noise2"] = float(noise2)
    return moments


def reproduce_snr(folder, progress=True):
    """Signal-to-noise ratios of every estimator's gradient against K.

    On the toy and on a one-layer MNIST model trained for `SNR_EPOCHS` epochs. Writes
    snr.json, table.md and snr.png into ``folder``.

    Returns
    -------
    table : str
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "snr.json"
    rows = read_json(path)["rows"] if path.exists() else []
    done = {(row["model"], row["estimator"], row["k"]) for row in rows}
    todo = [
        (name, estimator, k)
        for name in SNR_REPLICATES
        for estimator in ESTIMATORS
        for k in SNR_SAMPLES
        if (name, estimator, k) not in done and not (estimator == "vimco" and k == 1)
    ]
    models = {"toy": toy_model(np.random.default_rng(0))}
    if any(name == "mnist" for name, _, _ in todo):
        data = load("mnist")
        place = folder / "model", progress
        run = train_one_layer(data, 0, 5, *place, epochs=SNR_EPOCHS)
        x = binarize(data.test_images[:2], np.random.default_rng(0))
        models["mnist"] = run.model, x
    for name, estimator, k in tqdm(todo, unit="curve point", disable=not progress):
        replicates = SNR_REPLICATES[name]
        moments = gradient_moments(*models[name], k, estimator, replicates)
        where = {"model": name, "estimator": estimator, "k": k}
        rows.append(where | {"replicates": replicates} | moments)
        write_json(path, {"rows": rows})
    curves = snr_curves(rows)
    plots.signal_to_noise(curves, folder / "snr.png")
    table = snr_table(curves)
    write_text(folder / "table.md", table)
    return table


def snr_curves(rows):
    """(model, group) -> estimator -> (K, SNR), from the rows of snr.json (eq. 22.1)."""
    at = {(row["model"], row["estimator"], row["k"]): row for row in rows}
    curves = {}
    for (name, estimator, k), row in at.items():
        for group in ("theta", "phi"):
            signal_row = row
            if group == "phi":
                signal_row = at[name, SIGNAL_OF.get(estimator, estimator), k]
            elif estimator != "reparam":
                continue  # theta has the same coefficients in all of them
            signal2, noise2 = signal_row[f"{group}_signal2"], row[f"{group}_noise2"]
            # below zero: drowned. And rws-dreg is zero throughout where K = 1
            ratio = float(np.sqrt(signal2 / noise2)) if signal2 > 0 else 0.0
            curve = curves.setdefault((name, group), {}).setdefault(estimator, [])
            curve.append((k, ratio))
    return curves


def snr_slope(curve):
    """The slope of log SNR against log K, or NaN where the signal drowned."""
    points = [(k, ratio) for k, ratio in curve if k >= SNR_FIT and ratio > 0]
    if len(points) < 3:
        return np.nan
    return np.polyfit(*np.log(points).T, 1)[0]


def snr_table(curves):
    """The fitted slopes, as Markdown."""
    expected = {"reparam": "-1/2", "score": "-1", "vimco": "-1/2"}
    lines = [
        f"Slope of log SNR against log K, fitted to K = {SNR_FIT} to"
        f" {SNR_SAMPLES[-1]}; gradients of the IWAE bound",
        "",
        "| parameters | estimator | expected | toy | MNIST | toy, K = 64 |"
        " MNIST, K = 64 |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in ("theta", "phi"):
        for estimator in curves["toy", group]:
            pair = [curves[name, group][estimator] for name in ("toy", "mnist")]
            slopes = " | ".join(f"{snr_slope(curve):+.2f}" for curve in pair)
            ratios = " | ".join(f"{dict(curve)[64]:.3g}" for curve in pair)
            label = "all of them" if group == "theta" else estimator
            want = "+1/2" if group == "theta" else expected.get(estimator, "+1/2")
            lines.append(f"| {group} | {label} | {want} | {slopes} | {ratios} |")
    return "\n".join(lines)


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
                print(f"{estimator}, seed {seed}", flush=True)
                run = train_one_layer(
                    data,
                    seed,
                    RUN_K,
                    run_folder,
                    progress,
                    estimator=estimator,
                    epochs=RUN_EPOCHS,
                    batch=RUN_BATCH,
                    **({"m": RUN_K // 5} if estimator == "piwae" else {}),
                )
                images = data.test_images[:RUN_IMAGES]
                result = evaluate(run.model, images, RUN_WEIGHTS, progress=progress)
                seconds = {"training_seconds": sum(run.history["seconds"])}
                write_json(result_path, result.summary() | seconds)
            result = read_json(result_path)
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


def reproduce_sparse(folder, progress=True):
    """What the sparse backward costs in quality, and saves in time.

    The one-layer MNIST model by the IWAE bound, with either backward, evaluated after
    each epoch. The sparse runs go on a little, to reach where the dense ones end.

    Returns
    -------
    table : str
    """
    folder, data = Path(folder), load("mnist")
    path = folder / "sparse.json"
    rows = read_json(path)["rows"] if path.exists() else []
    done = {(row["seed"], row["backward"], row["epoch"]) for row in rows}
    for seed in SPARSE_SEEDS:
        for backward, epochs in SPARSE_EPOCHS.items():
            for epoch in range(1, epochs + 1):
                if (seed, backward, epoch) in done:
                    continue
                print(f"backward {backward}, seed {seed}, epoch {epoch}", flush=True)
                run = train_one_layer(
                    data,
                    seed,
                    SPARSE_K,
                    folder / f"{backward}-{seed}",
                    progress,
                    backward=backward,
                    batch=SPARSE_BATCH,
                    epochs=epoch,
                )
                images = data.test_images[:SPARSE_IMAGES]
                result = evaluate(run.model, images, SPARSE_WEIGHTS, progress=progress)
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
            share = max(0, (nll[i - 1] - target) / (nll[i - 1] - nll[i]))
            return seconds[i - 1] + share * (seconds[i] - seconds[i - 1])
    return np.nan


def train_one_layer(data, seed, k, folder, progress, **settings):
    """A `Run` of the paper's one-layer model, float32, by the IWAE bound, which goes on
    where ``folder`` holds it.
    """
    rng = np.random.default_rng(seed)
    model = VAE(784, rng=rng, x_mean=data.train_images.mean(axis=0))
    settings |= {"seed": seed, "folder": folder, "data": "mnist", "progress": progress}
    return train(model, data.train_images, "iwae", k, **settings)


def write_text(path, text):
    """``text`` and an end of line."""
    write_atomically(path, lambda file: file.write((text + "\n").encode()))


EXPERIMENTS = {
    "snr": reproduce_snr,
    "estimators": reproduce_estimators,
    "sparse": reproduce_sparse,
}
