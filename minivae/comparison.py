"""Runs side by side: what was measured of each, and in which settings they differ."""

from __future__ import annotations

from collections.abc import Mapping

from .results import Evaluation
from .runs import Run

# settings that say nothing of what was learned
LEFT_OUT = ("model", "options", "threads", "test_images", "device", "kernels")


def compare(runs: Mapping[str, Run], evaluations: Mapping[str, Evaluation]) -> str:
    """A table of trained runs, as Markdown, and the settings in which they differ.

    The differences of the NLL are to the first, over the same images: their standard
    error is that of the paired differences (`Evaluation.paired_difference`).

    Parameters
    ----------
    runs : dict
        Label -> `Run`.
    evaluations : dict
        Label -> `Evaluation` of that run's model.

    Raises
    ------
    ValueError
        If the evaluations are not of the same images with the same pixels, or not of
        the same labels.
    """
    if list(runs) != list(evaluations) or not runs:
        raise ValueError(
            "compare needs an evaluation for each run, by the same label; got runs"
            f" {', '.join(runs)} and evaluations {', '.join(evaluations)}"
        )
    first = next(iter(evaluations.values()))
    lines = [
        f"{first.images:,} images, NLL with k = {first.k:,}; the difference is to the"
        " first, with its standard error over images",
        "",
        "| run | trained by | ELBO, nats | NLL, nats | difference | active units |"
        " KL, nats | training, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, run in runs.items():
        result = evaluations[label]
        difference, error = result.paired_difference(first)
        config, units = run.config, " + ".join(map(str, result.active_units))
        difference = f"{difference:+.2f} +- {error:.2f}"
        if result.images == 1:  # of one there is no spread, nor a variance over images
            difference, units = difference.removesuffix(" +- nan"), "-"
        lines.append(
            f"| {label} | {config['bound']}, k = {config['k']} |"
            f" {result.reconstruction - result.kl:.2f} | {result.nll:.2f} |"
            f" {'-' if result is first else difference} |"
            f" {units} of {' + '.join(map(str, run.model.latent_dims))} |"
            f" {result.kl:.2f} | {sum(run.history['seconds']):.0f} |"
        )
    lines += [
        "",
        "| setting | " + " | ".join(runs) + " |",
        "|---" * (len(runs) + 1) + "|",
    ]
    for name, values in differences([run.config for run in runs.values()]).items():
        lines.append(f"| {name} | " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def differences(configs):
    """Name -> values, of the settings that are not the same in all ``configs``."""
    flat = [
        config["model"]
        | config
        | config.get("options", {})
        | {"origin": origin_in_words(config.get("origin"))}
        for config in configs
    ]
    names = dict.fromkeys(name for settings in flat for name in settings)
    values = {name: [settings.get(name, "-") for settings in flat] for name in names}
    return {
        name: several
        for name, several in values.items()
        if name not in LEFT_OUT and any(value != several[0] for value in several)
    }


def origin_in_words(origin):
    """Where a run's parameters came from, as its settings say it."""
    if origin is None:
        return "-"
    return f"{origin.get('run') or 'another run'}, epoch {origin.get('epoch')}"
