"""The bugs of the museum (chapter 27), each a few lines changed in a copy of a file.

A bug is kept as exact texts and what takes their places. Each text stands once in its
file, so a bug that no longer applies is noticed.
"""

from difflib import ndiff
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..engine.registry import BOUNDS, CLOSED_FORMS, ESTIMATORS

PACKAGE = Path(__file__).parent.parent


class Exhibit(NamedTuple):
    """A file of the package; right text -> wrong text; and the program that shows the
    bug, a key of `minivae.experiments.checks.PROGRAMS`.
    """

    file: str
    edits: dict
    program: str = "iwae"


EXHIBITS = {
    "mean of logs": Exhibit(
        "minimal.py",
        {
            "log_w.max(axis=1) + np.log(scaled.mean(axis=1))": "log_w.mean(axis=1)",
            "return value, scaled / scaled.sum(axis=1, keepdims=True)": (
                "return value, np.full_like(log_w, 1 / log_w.shape[1])"
            ),
        },
    ),
    "log K forgotten": Exhibit(
        "minimal.py",
        {"np.log(scaled.mean(axis=1))": "np.log(scaled.sum(axis=1))"},
    ),
    "softmax of the loss": Exhibit(
        "minimal.py",
        {
            "np.exp(log_w - log_w.max(axis=1, keepdims=True))": (
                "np.exp(log_w.min(axis=1, keepdims=True) - log_w)"
            ),
            "log_w.max(axis=1) + np.log(scaled.mean(axis=1))": (
                "log_w.min(axis=1) - np.log(scaled.mean(axis=1))"
            ),
        },
    ),
    "weights left attached": Exhibit(
        "minimal.py",
        {
            "value = log_w.max(axis=1) + np.log(scaled.mean(axis=1))": (
                "w_norm = scaled / scaled.sum(axis=1, keepdims=True)\n"
                "    value = (w_norm * log_w).sum(axis=1)"
            ),
            "return value, scaled / scaled.sum(axis=1, keepdims=True)": (
                "return value, w_norm * (1 + log_w - value[:, None])"
            ),
        },
    ),
    "M and K swapped": Exhibit(
        "bounds.py",
        {
            "iwae(log_w.reshape(B * m, K // m), ops=ops)": (
                "iwae(log_w.reshape(B * K // m, m), ops=ops)"
            ),
            "group_value.reshape(B, m)": "group_value.reshape(B, K // m)",
            "u.reshape(B, K) / m, du.reshape(B, K) / m": (
                "u.reshape(B, K) * m / K, du.reshape(B, K) * m / K"
            ),
        },
        "miwae",
    ),
    "variance for sigma": Exhibit(
        "minimal.py",
        {
            "sigma = np.exp(log_sigma)[:, None]": (
                "sigma = np.exp(2 * log_sigma)[:, None]"
            ),
            "(dz * sigma * eps + dlog_w)": "(2 * dz * sigma * eps + dlog_w)",
        },
    ),
    "KL inside the weight": Exhibit(
        "minimal.py",
        {
            "((eps**2 - z**2) / 2 + log_sigma[:, None]).sum(axis=2)": (
                "(-(mu**2 + sigma[:, 0] ** 2 - 1) / 2 + log_sigma).sum(axis=1)[:, None]"
            ),
            "dz.reshape(B, K, L) - dlog_w * z": "dz.reshape(B, K, L)",
            "dmu = dz.sum(axis=1)": "dmu = (dz - dlog_w * mu[:, None]).sum(axis=1)",
            "(dz * sigma * eps + dlog_w)": (
                "(dz * sigma * eps + dlog_w * (1 - sigma**2))"
            ),
        },
    ),
    "KL averaged over latents": Exhibit(
        "minimal.py",
        {
            "log_sigma[:, None]).sum(axis=2)": "log_sigma[:, None]).mean(axis=2)",
            "- dlog_w * z": "- dlog_w * z / L",
            "(dz * sigma * eps + dlog_w)": "(dz * sigma * eps + dlog_w / L)",
        },
    ),
    "x repeated in the wrong order": Exhibit(
        "minimal.py",
        {
            "(x[:, None] * logits - softplus)": (
                "(np.tile(x, (K, 1)).reshape(B, K, D) * logits - softplus)"
            ),
            "(x[:, None] - np.exp(logits - softplus))": (
                "(np.tile(x, (K, 1)).reshape(B, K, D) - np.exp(logits - softplus))"
            ),
        },
    ),
    "probabilities clipped": Exhibit(
        "minimal.py",
        {
            "log_px = (x[:, None] * logits - softplus)": (
                "rho = np.clip(1 / (1 + np.exp(-logits)), 1e-7, 1 - 1e-7)\n"
                "    log_px = np.log(np.where(x[:, None] == 1, rho, 1 - rho))"
            ),
            "dlog_w * (x[:, None] - np.exp(logits - softplus))": (
                "dlog_w * np.where(abs(rho - 0.5) < 0.5 - 1e-7, x[:, None] - rho, 0)"
            ),
        },
    ),
    "dreg for theta too": Exhibit(
        "estimators.py",
        {"return value, c, c - dc,": "return value, c - dc, c - dc,"},
        "dreg",
    ),
    "the naive second layer": Exhibit(
        "log_weights.py",
        {"(*draw, path_r, -path_r)": "(*draw, path_r, 0 * path_r)"},
        "two layers",
    ),
    "resumed without moments": Exhibit(
        "minimal.py",
        {
            "total, order = 0.0, rng.permutation(len(images))": (
                "total, order = 0.0, rng.permutation(len(images))\n"
                "        m, v = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)"
            ),
        },
    ),
    "grey pixels": Exhibit(
        "minimal.py",
        {"x = (rng.random(grey.shape) < grey).astype(grey.dtype)": "x = grey"},
    ),
}

# The check that is a bug itself, with which the table has a column of its own
ALL_ONES = Exhibit("check.py", {"rng.standard_normal(y.shape)": "np.ones(y.shape)"})


def edited(file, edits):
    """The source of a file of the package with its texts replaced.

    Raises
    ------
    ValueError
        If one does not stand there exactly once.
    """
    source = (PACKAGE / file).read_text(encoding="utf-8")
    for right, wrong in edits.items():
        if source.count(right) != 1:
            raise ValueError(f"{file} has {right!r} {source.count(right)} times, not 1")
        source = source.replace(right, wrong)
    return source


def planted(file, edits):
    """A module made from `edited`. What it registers is not kept."""
    module = ModuleType(f"minivae.{Path(file).stem}")
    module.__package__ = "minivae"
    registries = BOUNDS, ESTIMATORS, CLOSED_FORMS
    before = [dict(registry) for registry in registries]
    try:
        exec(compile(edited(file, edits), file, "exec"), vars(module))
    finally:
        for registry, entries in zip(registries, before):
            registry.data = entries
    return module


def side_by_side(exhibit):
    """The lines that differ, without their comments: - for right, + for wrong."""
    right, wrong = (
        [line.split("  # ")[0] for line in edited(exhibit.file, edits).splitlines()]
        for edits in ({}, exhibit.edits)
    )
    lines = [line for line in ndiff(right, wrong) if line[0] in "-+"]
    indent = min(len(line[2:]) - len(line[2:].lstrip()) for line in lines)
    return "".join(f"{line[0]} {line[2 + indent :]}\n" for line in lines)
