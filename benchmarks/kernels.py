"""Time every kernel in every version, after checking its result against the reference.

The sizes are chunks of the one-layer MNIST model, 784 pixels, 200 hidden and 50 latent
units, with K = 50: from one image to fifty. A kernel runs on one thread. Its GB/s count
the arrays that it must read and write, once each; "of copy" compares them with one
thread that copies an array of 2 MB. Run it with nothing else running:

    python benchmarks/kernels.py [--plot]
    python benchmarks/kernels.py --device cuda --out FOLDER
    python benchmarks/kernels.py --predict h100

Writes kernels.json and kernels.md into results; --plot draws them, and training.json
where it is there. With --device cuda the versions are numba and all of CUDA's, each of
these recorded twenty times in a graph, and "of copy" is of a copy in the GPU's own
memory. The sizes are fifty images, and four thousand: at these, for CUDA alone, the
arrays of most kernels are more than a GPU's cache holds. "MB" says of which. With
--predict nothing is measured: predict.py says what a step should take on that card.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import (
    RESULTS,
    card,
    copy_rate,
    device_ms,
    grouped_bars,
    median_ms,
    need_gpu,
    processor,
    recordings_must_succeed,
    versions,
)
from predict import CARDS, write_prediction
from threadpoolctl import threadpool_limits

from minivae.engine.recording import queue
from minivae.kernels import (
    NAMES,
    adam,
    bernoulli,
    coefficients,
    log_weight,
    noise,
    reparameterize,
    softmax,
    tanh,
)
from minivae.kernels.device import SIMULATED, to_device, to_host

IMAGES = {"cpu": (1, 5, 10, 50), "cuda": (50, 4000)}
K, D, H, L, PARAMETERS = 50, 784, 200, 50, 425_284  # of the model
if SIMULATED:  # to try the program itself
    IMAGES, K, D, H, L, PARAMETERS = {"cuda": (1,)}, 3, 9, 5, 2, 40


class Case(NamedTuple):
    """A kernel, its arguments, and the elements and bytes that it works through."""

    label: str
    file: object
    function: str
    arguments: tuple
    elements: int
    n_bytes: int
    numbers: tuple = ()  # positions of arguments that are the step's own numbers


def cases(B, dtype=np.float32):
    """Every kernel, on a chunk of ``B`` images."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, dtype)

    x = (rng.random((B, D)) < 0.2).astype(dtype)
    a, b, eps, heads = normal(B, K, D), normal(D), normal(B, K, L), normal(2, B, L)
    log_w, path = normal(B, K).astype(np.float64), normal(B, K)
    h, bias, dz, n = normal(B * K, H), normal(H), normal(B, K, L), PARAMETERS
    state = [normal(n), normal(n), normal(n), normal(n) ** 2]
    key, counter = (1, 2), (1, 1)  # the step, epoch and stream

    def case(file, function, arguments, output, passes, numbers=()):
        label = function.replace("_backward", " backward")
        work = output.size, passes * output.nbytes
        return Case(label, file, function, arguments, *work, numbers)

    logits, draw = (a, b, x), (dz, eps, heads[1], path, -path)
    settings = (1, 1e-3, 0.9, 0.999, 1e-8)
    rows, itself = [normal(B, K).astype(np.float64) for _ in range(3)], np.dtype(dtype)
    return [
        case(bernoulli, "bernoulli", logits, a, 1),
        case(bernoulli, "bernoulli_backward", logits, a, 2),
        case(tanh, "tanh", (h, bias), h, 2),
        # in place, call after call: near one, so that it does not fade into denormals
        case(tanh, "tanh_backward", (h, np.tanh(h) / 9), h, 3),
        case(reparameterize, "reparameterize", (*heads, eps), eps, 2),
        case(reparameterize, "reparameterize_backward", draw, eps, 2),
        case(log_weight, "log_weight", (log_w, dz, eps, heads[1]), eps, 2),
        case(softmax, "softmax", (log_w,), log_w, 2),
        # three are read, and four written, and a truth value
        case(coefficients, "coefficients", (*rows, itself), log_w, 3 + 4 / 2 + 1 / 8),
        case(noise, "normal", (key, 0, B, K * L, *counter), eps, 1, (4, 5)),
        case(noise, "uniform", (key, 0, B, D, *counter), x, 1, (4, 5)),
        case(noise, "binarize", (key, 0, x, *counter), x, 2, (3, 4)),
        case(adam, "adam", (*state, *settings), state[0], 7, (4, 5)),
    ]


def in_memory_of(name, arguments, numbers=()):
    """The arguments of a version, in the memory where it works. A GPU has the
    ``numbers``, positions among them, there as well, as a recorded step does.
    """
    if name in NAMES:
        return arguments
    arguments = [np.array([a]) if i in numbers else a for i, a in enumerate(arguments)]
    return [to_device(a) if isinstance(a, np.ndarray) else a for a in arguments]


def check(case, name):
    """Refuse to time a wrong result."""

    def run(name, dtype):
        copies = [
            np.array(a, dtype if a.dtype == np.float32 else a.dtype)
            if isinstance(a, np.ndarray)
            else a
            for a in case.arguments
        ]
        copies = in_memory_of(name, copies, case.numbers)
        result = getattr(case.file.VERSIONS[name], case.function)(*copies)
        if case.label == "adam":  # it works in place
            result = tuple(copies[:4])
        results = result if isinstance(result, tuple) else (result,)
        return [to_host(result) for result in results]

    for got, want in zip(run(name, np.float32), run("numpy", np.float64)):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)


def versions_to_time(file, device, small):
    """The names of a kernel's versions; numba stands by where a GPU's work is small."""
    if device == "cpu":
        return NAMES
    names = sorted(name for name in file.VERSIONS if name.startswith("cuda"))
    if SIMULATED and "cuda_3" in names:
        names.remove("cuda_3")  # no shuffles
    return ["numba", *names] if small else names


def measure(device, copy):
    """A dict for each kernel, size and version."""
    rows = []
    for B in IMAGES[device]:
        small = B == IMAGES[device][0]
        for case in cases(B):
            if case.label == "adam" and not small:
                continue  # it has one size
            for name in versions_to_time(case.file, device, small):
                if device == "cpu" or small:
                    check(case, name)
                function = getattr(case.file.VERSIONS[name], case.function)
                time = median_ms if name in NAMES else device_ms
                ms = time(function, *in_memory_of(name, case.arguments, case.numbers))
                rate = case.n_bytes / ms / 1e6
                rows.append(
                    {
                        "kernel": case.label, "images": B, "version": name, "ms": ms,
                        "ns_per_element": 1e6 * ms / case.elements,
                        "gb_per_s": rate, "of_copy": rate / copy,
                        "mb": case.n_bytes / 1e6,
                    }
                )  # fmt: skip
            print(case.label, B, flush=True)
    return rows


def by_case(rows):
    """(kernel, images) -> version -> row."""
    table = {}
    for row in rows:
        table.setdefault((row["kernel"], row["images"]), {})[row["version"]] = row
    return table


def table(rows):
    """One line for each kernel and size."""
    lines = [
        "| kernel | images x 50 | "
        + " | ".join(f"{name}, ms | ns/element | GB/s | of copy" for name in NAMES)
        + " | numpy / numba |",
        "|---" * (3 + 4 * len(NAMES)) + "|",
    ]
    for (label, B), versions_of in by_case(rows).items():
        cells = [
            f"{row['ms']:.3f} | {row['ns_per_element']:.2f} | {row['gb_per_s']:.1f} |"
            f" {row['of_copy']:.0%}"
            for row in versions_of.values()
        ]
        ratio = versions_of["numpy"]["ms"] / versions_of["numba"]["ms"]
        lines.append(f"| {label} | {B} | {' | '.join(cells)} | {ratio:.1f} |")
    return lines


def table_on_gpu(rows):
    """One line for each kernel, size and CUDA version."""
    lines = [
        "| kernel | images x 50 | MB | version | ms | numba on the CPU, ms | ratio |"
        " GB/s | of copy |",
        "|---" * 9 + "|",
    ]
    for (label, B), versions_of in by_case(rows).items():
        numba = versions_of.pop("numba", None)
        for name, row in versions_of.items():
            ms = row["ms"]
            cpu = f"{numba['ms']:.3f} | {numba['ms'] / ms:.0f}" if numba else " | "
            lines.append(
                f"| {label} | {B} | {row['mb']:.1f} | {name} | {ms:.4f} | {cpu} |"
                f" {row['gb_per_s']:.0f} | {row['of_copy']:.0%} |"
            )
    return lines


def plot_kernels(rows):
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row["kernel"] for row in rows))
    figure = Figure(figsize=(12, 12), dpi=120, layout="constrained")
    panels = figure.subplots(4, 4)
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
    names, groups = {"minivae": "minivae, dense", "sparse": "minivae, sparse"}, {}
    for row in result["steps"]:
        if row["floor_ms"]:  # one stochastic layer
            groups[f"B = {row['B']}, K = {row['K']}"] = {
                names.get(name, name): ms / row["floor_ms"]
                for name, ms in row["ms"].items()
            }
    grouped_bars(axes, groups)
    axes.axhline(1, color="0.3", linestyle=":")
    axes.set(ylabel="step / the matrix products alone")
    axes.legend()
    figure.savefig(RESULTS / "training.png")


def device_copy_rate(megabytes=256):
    """GB/s of a copy from the GPU's memory to the same memory: each byte counts twice,
    as it is read and written.
    """
    a = to_device(np.ones(megabytes * 250_000 if not SIMULATED else 10, np.float32))
    b = a.copy()

    def copy():
        b[...] = a

    return 2 * a.nbytes / device_ms(copy) / 1e6


def main():
    parser = argparse.ArgumentParser(description="Time every kernel in every version.")
    parser.add_argument("--plot", action="store_true", help="draw the results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a folder")
    parser.add_argument("--predict", choices=CARDS, help="measure nothing")
    args = parser.parse_args()
    if args.predict:
        print(write_prediction(args.predict, args.out))
        return
    on_gpu, out = args.device == "cuda", args.out
    if on_gpu:
        need_gpu()
        recordings_must_succeed()
        with queue(), threadpool_limits(1):
            copy = device_copy_rate()
            rows = measure("cuda", copy)
        copied, lines = f"a copy on {card()}", table_on_gpu(rows)
    else:
        with threadpool_limits(1):
            copy = copy_rate(2)
            rows = measure("cpu", copy)
        copied, lines = "a copy of 2 MB", table(rows)
    lines = [
        f"float32, numpy and numba on one thread, K = {K}, D = {D}, H = {H}, L = {L};"
        " medians of 50 calls",
        "",
        f"{processor()}; {versions('numpy', 'numba', 'numba-cuda', 'cupy-cuda13x')};"
        f" {copied}: {copy:.1f} GB/s",
        "",
        *lines,
    ]
    out.mkdir(exist_ok=True, parents=True)
    (out / "kernels.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "kernels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), f"\n\nwritten: {out / 'kernels.md'}")
    if args.plot:
        plot_kernels(rows)
        if (RESULTS / "training.json").exists():
            plot_training(json.loads((RESULTS / "training.json").read_text()))


if __name__ == "__main__":
    main()
