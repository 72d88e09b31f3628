"""Time every kernel in every version, after checking its result against the reference.

The sizes are chunks of the one-layer MNIST model, 784 pixels, 200 hidden and 50 latent
units, with K = 50: from one image to fifty. A kernel runs on one thread. Its GB/s count
the arrays that it must read and write, once each; "of copy" compares them with one
thread that copies an array of 2 MB. Run it with nothing else running:

    python benchmarks/kernels.py [--plot]

Writes results/kernels.json and results/kernels.md; --plot draws them, and
results/training.json where it is there, into results/*.png.
"""

import argparse
import json
from typing import NamedTuple

import numpy as np
from machine import RESULTS, copy_rate, median_ms, processor, versions
from threadpoolctl import threadpool_limits

from minivae.kernels import (
    NAMES,
    adam,
    bernoulli,
    log_weight,
    noise,
    reparameterize,
    softmax,
    tanh,
)

IMAGES, K, D, H, L = (1, 5, 10, 50), 50, 784, 200, 50
PARAMETERS = 425_284  # of the model


class Case(NamedTuple):
    """A kernel, its arguments, and the elements and bytes that it works through."""

    label: str
    file: object
    function: str
    arguments: tuple
    elements: int
    n_bytes: int


def cases(B, dtype=np.float32):
    """Every kernel, on a chunk of ``B`` images."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    x = (rng.random((B, D)) < 0.2).astype(dtype)
    a, b, eps, heads = normal(B, K, D), normal(D), normal(B, K, L), normal(2, B, L)
    log_w, path = normal(B, K).astype(np.float64), normal(B, K)
    h, dz, n = normal(B * K, H), normal(B, K, L), PARAMETERS
    state = [normal(n), normal(n), normal(n), normal(n) ** 2]
    key, place = np.array([1, 2], np.uint32), (1, 1)

    def case(label, file, function, arguments, output, passes):
        work = output.size, passes * output.nbytes
        return Case(label, file, function, arguments, *work)

    logits, draw = (a, b, x), (dz, eps, heads[1], path, -path)
    settings = (1, 1e-3, 0.9, 0.999, 1e-8)
    return [
        case("bernoulli", bernoulli, "forward", logits, a, 1),
        case("bernoulli backward", bernoulli, "backward", logits, a, 2),
        case("tanh", tanh, "forward", (h,), h, 2),
        # in place, call after call: near one, so that it does not fade into denormals
        case("tanh backward", tanh, "backward", (h, np.tanh(h) / 9), h, 3),
        case("reparameterize", reparameterize, "forward", (*heads, eps), eps, 2),
        case("reparameterize backward", reparameterize, "backward", draw, eps, 2),
        case("log_weight", log_weight, "forward", (log_w, dz, eps, heads[1]), eps, 2),
        case("softmax", softmax, "forward", (log_w,), log_w, 2),
        case("normal", noise, "normal", (key, 0, B, K * L, *place), eps, 1),
        case("uniform", noise, "uniform", (key, 0, B, D, *place), x, 1),
        case("adam", adam, "step", (*state, *settings), state[0], 7),
    ]


def check(function, reference, arguments):
    """Refuse to time a wrong result."""

    def run(f, dtype):
        copies = [
            np.array(a, dtype if a.dtype == np.float32 else a.dtype)
            if isinstance(a, np.ndarray)
            else a
            for a in arguments
        ]
        result = f(*copies)
        if isinstance(result, bool):  # adam works in place
            result = tuple(c for c in copies if isinstance(c, np.ndarray))
        return result if isinstance(result, tuple) else (result,)

    for got, want in zip(run(function, np.float32), run(reference, np.float64)):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)


def measure(copy):
    """A dict for each kernel, size and version."""
    rows = []
    for B in IMAGES:
        for case in cases(B):
            if case.label == "adam" and B != IMAGES[0]:
                continue  # it has one size
            functions = {
                name: getattr(case.file.VERSIONS[name], case.function) for name in NAMES
            }
            for name, function in functions.items():
                check(function, functions["numpy"], case.arguments)
                ms = median_ms(function, *case.arguments)
                rate = case.n_bytes / ms / 1e6
                rows.append(
                    {
                        "kernel": case.label, "images": B, "version": name, "ms": ms,
                        "ns_per_element": 1e6 * ms / case.elements,
                        "gb_per_s": rate, "of_copy": rate / copy,
                    }
                )  # fmt: skip
            print(case.label, B, flush=True)
    return rows


def table(rows):
    """One line for each kernel and size."""
    lines = [
        "| kernel | images x 50 | "
        + " | ".join(f"{name}, ms | ns/element | GB/s | of copy" for name in NAMES)
        + " | numpy / numba |",
        "|---" * (3 + 4 * len(NAMES)) + "|",
    ]
    by_case = {}
    for row in rows:
        by_case.setdefault((row["kernel"], row["images"]), {})[row["version"]] = row
    for (label, B), versions_of in by_case.items():
        cells = [
            f"{row['ms']:.3f} | {row['ns_per_element']:.2f} | {row['gb_per_s']:.1f} |"
            f" {row['of_copy']:.0%}"
            for row in versions_of.values()
        ]
        ratio = versions_of["numpy"]["ms"] / versions_of["numba"]["ms"]
        lines.append(f"| {label} | {B} | {' | '.join(cells)} | {ratio:.1f} |")
    return lines


def plot_kernels(rows):
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row["kernel"] for row in rows))
    figure = Figure(figsize=(12, 9), dpi=120, layout="constrained")
    panels = figure.subplots(3, 4)
    for axes, label in zip(panels.flat, labels):
        for name in NAMES:
            here = [r for r in rows if r["kernel"] == label and r["version"] == name]
            points = [(K * row["images"], row["ns_per_element"]) for row in here]
            axes.plot(*zip(*points), "o-", label=name)
        axes.set(title=label, xscale="log", yscale="log", xlabel="rows")
        axes.set(ylabel="ns per element")
        axes.legend()
    for axes in panels.flat[len(labels) :]:
        axes.axis("off")
    figure.savefig(RESULTS / "kernels.png")


def plot_training(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    names = list(result["steps"][0]["ms"])
    for i, row in enumerate(result["steps"]):
        for j, name in enumerate(names):
            left = i + 0.8 * (j / len(names) - 0.5)
            ratio = row["ms"][name] / row["floor_ms"]
            label = {"minivae": "minivae, dense", "sparse": "minivae, sparse"}
            axes.bar(left, ratio, 0.8 / len(names), color=f"C{j}",
                     label=label.get(name, name) if i == 0 else None)  # fmt: skip
    axes.axhline(1, color="0.3", linestyle=":")
    sizes = [f"B = {row['B']}, K = {row['K']}" for row in result["steps"]]
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set(ylabel="step / the matrix products alone")
    axes.legend()
    figure.savefig(RESULTS / "training.png")


def main():
    parser = argparse.ArgumentParser(description="Time every kernel in every version.")
    parser.add_argument("--plot", action="store_true", help="draw the results")
    plot = parser.parse_args().plot
    with threadpool_limits(1):
        copy = copy_rate(2)
        rows = measure(copy)
    lines = [
        f"float32, one thread, K = {K}, D = {D}, H = {H}, L = {L}; medians of 50 calls",
        "",
        f"{processor()}; {versions('numpy', 'numba')}; a copy of 2 MB: {copy:.1f} GB/s",
        "",
        *table(rows),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kernels.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "kernels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), f"\n\nwritten: {RESULTS / 'kernels.md'}")
    if plot:
        plot_kernels(rows)
        if (RESULTS / "training.json").exists():
            plot_training(json.loads((RESULTS / "training.json").read_text()))


if __name__ == "__main__":
    main()
