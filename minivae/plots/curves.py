"""Pictures of numbers: a run's history, and what its evaluation measured."""

from math import ceil

import numpy as np

from ..evaluation import ACTIVE
from .figure import finished, legend_above, new_figure

# what learning curves may go by -> its values, from a history
ABSCISSAS = {
    "epoch": lambda history: history["epoch"],
    "second": lambda history: np.cumsum(history["seconds"]),
}


def learning_curves(histories, path=None, by="epoch"):
    """The bound, training and held-out, of each history (label -> columns), by epoch
    or by second.
    """
    figure = new_figure()
    axes = figure.subplots()
    many = min(len(history["epoch"]) for history in histories.values()) > 30
    dot, circle, square = ("", "", "") if many else ".os"  # they cover lines
    for i, (label, history) in enumerate(histories.items()):
        at = ABSCISSAS[by](history)
        name = f"{label}, training (mean during the epoch)"
        axes.plot(at, history["bound"], f"C{i}{dot}-", label=name)
        for split, line in (("test", f"{circle}--"), ("validation", f"{square}:")):
            if f"{split}_bound" in history:
                name = f"{label}, {split} (after it)"
                style = {"markerfacecolor": "none", "label": name}
                axes.plot(at, history[f"{split}_bound"], f"C{i}{line}", **style)
    axes.set(xlabel=by, ylabel="bound (nats)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if many and all(history["epoch"][0] == 1 for history in histories.values()):
        axes.set_xscale("log")  # learning-rate stages grow as 3^i
    legend_above(figure)
    return finished(figure, path)


def draw_evaluations(evaluations, folder):
    """The pictures of one or more evaluations (label -> Evaluation)."""
    active_units(evaluations, folder / "active_units.png")
    bound_against_k(evaluations, folder / "bound_against_k.png")
    normalised_weights(evaluations, folder / "normalised_weights.png")


def active_units(evaluations, path=None):
    """The sorted variances of E_q[z|x], one line per layer (label -> Evaluation)."""
    figure = new_figure()
    axes = figure.subplots()
    for label, evaluation in evaluations.items():
        layers = list(zip(evaluation.unit_variances, evaluation.active_units))
        for l, (variances, active) in enumerate(layers, start=1):
            name = f"{label}, z_{l}" if len(layers) > 1 else label
            unit = np.arange(1, len(variances) + 1)
            name = f"{name}: {active} active"
            axes.plot(unit, np.sort(variances)[::-1], ".-", label=name)
    axes.axhline(ACTIVE, color="0.5", linestyle=":", label=f"threshold {ACTIVE}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    ylabel = "variance of E_q[z|x] over images"
    axes.set(xlabel="latent unit, sorted", ylabel=ylabel, yscale="log")
    legend_above(figure)
    return finished(figure, path)


def units_over_epochs(variances, path=None):
    """The variance of each unit's E_q[z|x] after each epoch, a panel for each label
    (label -> columns: "epoch", and one a unit, "z1_1"); a colour for each layer.
    """
    figure = new_figure(max(6, 3.5 * len(variances)))
    panels = figure.subplots(1, len(variances), squeeze=False, sharey=True)[0]
    for axes, (label, columns) in zip(panels, variances.items()):
        for name, values in columns.items():
            if name != "epoch":
                layer = int(name[1 : name.index("_")])
                style = {"color": f"C{layer - 1}", "linewidth": 0.6}
                axes.plot(columns["epoch"], values, **style, label=f"z_{layer}")
        axes.axhline(ACTIVE, color="0.5", linestyle=":", label=f"threshold {ACTIVE}")
        axes.set(title=label, xlabel="epoch", yscale="log")
        axes.title.set_fontsize("small")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("variance of E_q[z|x] over images")
    legend_above(figure)
    return finished(figure, path)


def bound_against_k(evaluations, path=None):
    """The k-sample bound of each labelled Evaluation, from the same weights."""
    figure = new_figure()
    axes = figure.subplots()
    sizes = sorted({k for result in evaluations.values() for k in result.bounds})
    for label, evaluation in evaluations.items():
        k, values = list(evaluation.bounds), list(evaluation.bounds.values())
        axes.plot(k, values, "o-", label=f"trained: {label}")
    axes.set(xlabel="k", ylabel="bound on log p(x) (nats)", xscale="log")
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.minorticks_off()
    legend_above(figure)
    return finished(figure, path)


def normalised_weights(evaluations, path=None):
    """Left: normalised weights, largest first. Right: effective sample sizes."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    for label, evaluation in evaluations.items():
        name, k = f"trained: {label}", evaluation.k
        rank = np.arange(1, k + 1)
        # a logarithmic axis has nothing to say of what underflowed to zero
        weights = np.maximum(evaluation.sorted_weights, 1e-300)
        left.plot(rank, weights, ".-" if k < 10 else "-", label=name)
        ess, bins = evaluation.effective_sample_size, np.geomspace(1, max(2, k), 25)
        right.hist(ess, bins=bins, alpha=0.5, label=name)
    ylabel = "normalised weight, mean over images"
    left.set(xlabel="rank", ylabel=ylabel, xscale="log", yscale="log", ylim=(1e-12, 2))
    xlabel = f"effective sample size of {k}, {evaluation.images} images"
    right.set(xlabel=xlabel, ylabel="images", xscale="log")
    legend_above(figure)
    return finished(figure, path)


def signal_to_noise(curves, path=None):
    """SNR of the gradient against K, one panel for each (model, parameters).

    ``curves`` is (model, parameters) -> estimator -> list of (K, SNR); what is zero is
    left out.
    """
    figure = new_figure(9, 7)
    panels = figure.subplots(2, ceil(len(curves) / 2), squeeze=False, sharex=True)
    for axes, ((model, parameters), by_estimator) in zip(panels.T.flat, curves.items()):
        for i, (estimator, curve) in enumerate(by_estimator.items()):
            points = [(k, ratio) for k, ratio in curve if ratio > 0]
            label = "all estimators" if parameters == "theta" else estimator
            axes.plot(*zip(*points), f"C{i}.-", label=label)
        axes.set(title=f"{model}, {parameters}", xscale="log", yscale="log")
        axes.set(xlabel="K", ylabel="signal / noise of the gradient")
        axes.legend(fontsize="small")
    return finished(figure, path)


def small_multiples(panels, path=None, *, xlabel, ylabel, columns=4):
    """One small panel for each title: its list of (label, values, style), against 1, 2,
    ... The labels of the first panel serve all.
    """
    rows = ceil(len(panels) / columns)
    figure = new_figure(2.4 * columns, 1.9 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, curves) in zip(grid.flat, panels.items()):
        for label, values, style in curves:
            axes.plot(range(1, len(values) + 1), values, label=label, **style)
        axes.set_title(title, fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel, fontsize="small")
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel, fontsize="small")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return finished(figure, path)
