"""What the paper says of a trained model besides its NLL, measured on any run.

Does it need its inactive units? Does it overfit? Are active and inactive units two
kinds? And how far is the NLL of k weights from the one that annealing finds?
"""

from pathlib import Path

import numpy as np

from ..annealing import anneal, check_density
from ..engine.files import read_json, write_json, write_text
from ..engine.report import say
from ..evaluation import ACTIVE, images_seen
from ..model import VAE
from ..plots.figure import finished, legend_above, new_figure
from ..results import standard_error
from ..runs import load_images, load_run
from .common import evaluated

MEASURE_IMAGES, MEASURE_WEIGHTS = 10_000, 5000
ANNEAL_IMAGES, DISTRIBUTIONS = 100, 1000
PARTS = ("test", "training", "active_units_only", "annealed")  # kept until all is done


def reproduce_measures(folder, run, data_path=None, progress=True):
    """The measures of the run in the folder ``run``, into ``folder``, which must not
    hold those of another.

    Writes measures.json, measures.md and unit_variances.png. Of the test images the
    first `MEASURE_IMAGES` are taken, and as many of the training images by chance; for
    annealing the first `ANNEAL_IMAGES`. Stopped, it goes on by images.

    Returns
    -------
    table : str
    """
    folder, loaded = Path(folder), load_run(run)
    check_density(loaded.model)
    digest, path = loaded.model.params.digest(), folder / "measures.json"
    there = read_json(path).get("parameters") if path.exists() else None
    if there not in (None, digest):
        raise ValueError(
            f"{path} is of another run, or of fewer epochs: choose another --out, or"
            " remove it"
        )
    data = load_images(loaded, data_path)
    label = f"{loaded.config['bound']}, k = {loaded.config['k']}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: folder / f"{name}.part.npz" for name in PARTS}
    rows = measures(loaded.model, data, kept, progress)
    write_json(path, {"model": label, "parameters": digest, **rows})
    unit_variances({label: rows["unit_variances"]}, folder / "unit_variances.png")
    table = measures_table(label, rows)
    write_text(folder / "measures.md", table)
    for path in kept.values():
        path.unlink(missing_ok=True)
    return table


def measures(model, data, kept, progress=True):
    """Name -> figures in nats, each difference with its standard error over images.

    What is measured stays in the files ``kept``, one for each of `PARTS`, which the
    caller removes.
    """
    n, m, k = MEASURE_IMAGES, ANNEAL_IMAGES, MEASURE_WEIGHTS
    chosen = np.random.default_rng(0).permutation(len(data.train_images))[:n]
    test, training = (
        images_seen(model, images, 0)
        for images in (data.test_images[:n], data.train_images[chosen])
    )
    if min(len(test), len(training)) < 2:
        raise ValueError("a standard error over images needs two at least")
    say(f"test images, {k} weights")
    of_test = evaluated(kept["test"], model, test, k, progress)
    say(f"training images, {k} weights")
    of_training = evaluated(kept["training"], model, training, k, progress)
    active = [variances > ACTIVE for variances in of_test.unit_variances]
    # of a layer without an active unit the one that varies most stays
    keep = [a | (v == v.max()) for a, v in zip(active, of_test.unit_variances)]
    say(f"without the inactive units, {k} weights")
    smaller = without_units(model, keep)
    of_active = evaluated(kept["active_units_only"], smaller, test, k, progress)
    cut, cut_se = of_active.paired_difference(of_test)
    say(f"annealing, {DISTRIBUTIONS} distributions")
    how = {"partial": kept["annealed"], "progress": progress}
    annealed = anneal(model, test[:m], DISTRIBUTIONS, **how)
    off = annealed.log_px - of_test.log_p[:m]
    summary = of_test.summary()
    return {
        **{name: summary[name] for name in ("images", "k", "nll", "nll_se")},
        **{name: summary[name] for name in ("active_units", "unit_variances")},
        "training_images": of_training.images,
        "training_nll": of_training.nll,
        "test_less_training": of_test.nll - of_training.nll,
        "test_less_training_se": float(np.hypot(of_test.nll_se, of_training.nll_se)),
        "without_inactive_less_all": cut,
        "without_inactive_less_all_se": cut_se,
        "annealed": annealed.summary() | {"images": len(annealed.log_px)},
        "weights_less_annealed": float(off.mean()),
        "weights_less_annealed_se": standard_error(off),
    }


def measures_table(label, rows):
    """The measures, as Markdown."""
    annealed = rows["annealed"]
    return "\n".join(
        [
            f"{label}: the first {rows['images']:,} test images and"
            f" {rows['training_images']:,} training images, {rows['k']:,} weights;"
            f" annealing on the first {annealed['images']} test images, of"
            f" {annealed['chains']} chains and {annealed['distributions']:,}"
            " distributions",
            "",
            "| measure | nats | s.e. |",
            "|---|---|---|",
            f"| NLL | {rows['nll']:.2f} | {rows['nll_se']:.2f} |",
            f"| test NLL less training NLL | {rows['test_less_training']:+.2f} |"
            f" {rows['test_less_training_se']:.2f} |",
            f"| NLL without the inactive units ({rows['active_units']} are active) less"
            f" NLL | {rows['without_inactive_less_all']:+.3f} |"
            f" {rows['without_inactive_less_all_se']:.3f} |",
            f"| NLL less annealed NLL | {rows['weights_less_annealed']:+.3f} |"
            f" {rows['weights_less_annealed_se']:.3f} |",
            f"| upper less lower bound, {annealed['simulated']} simulated images |"
            f" {annealed['gap']:+.3f} | {annealed['gap_se']:.3f} |",
        ]
    )


def without_units(model, keep):
    """The model with only some of its latent units: the others are cut out.

    A unit that is cut is 0 to the networks that read it, which in the top layer is its
    prior's mean, and is missing in p(z) and in q(z|x): what is left is a smaller model,
    with an NLL of its own. (To draw the unit from its prior instead of from q would
    change nothing in the model, only in the estimate.)

    Parameters
    ----------
    model : VAE
    keep : list of ndarray of bool and shape (L,)
        One per stochastic layer.

    Returns
    -------
    smaller : VAE
    """
    sizes = [int(kept.sum()) for kept in keep]
    rng = np.random.default_rng(0)  # whose weights are overwritten
    smaller = VAE(**model.config() | {"latent_dims": sizes}, rng=rng)
    for name, array in model.params.items():
        network, layer, kind = name.split(".")
        below, above = int(network[1:]) - 1, int(network[1:])  # z_l's numbers
        source, target = (below, above) if network[0] == "q" else (above, below)
        if target > 0 and not layer.startswith("hidden"):
            array = array[..., keep[target - 1]]
        first = layer == "hidden1" or f"{network}.hidden1.W" not in model.params
        if source > 0 and first and kind == "W":
            array = array[keep[source - 1]]
        smaller.params[name][...] = array
    return smaller


def unit_variances(by_label, path=None):
    """A histogram of log10 A, the variance of E_q[z|x] over images (eq. 12.3).

    Parameters
    ----------
    by_label : dict
        Label -> list of variances (L,), one per stochastic layer.
    path : path-like, optional
        Where to write the figure, as a PNG.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    figure = new_figure()
    axes = figure.subplots()
    bins = np.linspace(-6, 1, 43)
    for label, layers in by_label.items():
        for l, variances in enumerate(layers, start=1):
            name = f"{label}, z_{l}" if len(layers) > 1 else label
            shown = np.clip(np.log10(np.maximum(variances, 1e-300)), -6, 1)
            axes.hist(shown, bins=bins, alpha=0.5, label=name)
    axes.axvline(np.log10(ACTIVE), color="0.5", linestyle=":", label="threshold")
    xlabel = "log10 of the variance of E_q[z|x] over images (below -6 at -6)"
    axes.set(xlabel=xlabel, ylabel="latent units")
    legend_above(figure)
    return finished(figure, path)
