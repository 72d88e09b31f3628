"""How noisy each estimator's gradient is: its signal-to-noise ratio against K.

The raw numbers are written as they come, one row at a time, and the rows that are there
are kept: the experiment can be stopped and started again. Its table and its picture
come from that file alone.
"""

from pathlib import Path

import numpy as np

from .. import plots
from ..data import binarize, load
from ..engine.files import write_json, write_text
from ..engine.noise import generator
from ..engine.registry import ESTIMATORS
from ..engine.report import progress_bar
from ..gradient import bound_and_grad
from ..model import VAE
from .common import read_rows, train_one_layer

# An estimator without bias shares its mean with `dreg`, which shows it with far less
# noise; `rws` with `rws-dreg`
SNR_SAMPLES = tuple(2**i for i in range(11))
SNR_FIT = 16  # slopes are fitted to this many samples and more
SNR_REPLICATES = {"toy": 2000, "mnist": 200}
SNR_EPOCHS = 3
SNR_COLUMNS = {
    **{"model": str, "estimator": str, "k": int},
    **{"theta_signal2": float, "theta_noise2": float},
    **{"phi_signal2": float, "phi_noise2": float},
}
SIGNAL_OF = {"reparam": "dreg", "score": "dreg", "vimco": "dreg", "rws": "rws-dreg"}
GROUP = 8  # samples in a group of piwae, whose bound then stays as K grows


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
    rows = read_rows(path, SNR_COLUMNS)
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
        run = train_one_layer(
            data,
            seed=0,
            k=5,
            folder=folder / "model",
            progress=progress,
            epochs=SNR_EPOCHS,
        )
        x = binarize(data.test_images[:2], np.random.default_rng(0))
        models["mnist"] = run.model, x
    for name, estimator, k in progress_bar(todo, unit="curve point", show=progress):
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
