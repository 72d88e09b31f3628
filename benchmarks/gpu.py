"""A training run on a GPU: against the CPU, against PyTorch on the same card, and what
the paper's whole schedule would take.

    python benchmarks/training.py --device cuda --out FOLDER

The model is the paper's, 784-200-200-50, float32, IWAE. A step's time is an epoch's by
the number of its steps, as `minivae train` has it, with everything: the order, the
pixels, eps, Adam. PyTorch's step binarizes on the card, too, and its torch.compile
replays CUDA graphs.
"""

import json
import time
from importlib.util import find_spec

import numpy as np
from machine import card, processor, versions
from peers import torch_peer

import minivae as mv
from minivae import threads
from minivae.kernels.device import SIMULATED

# batch, K, and the steps of an epoch on the GPU, of one on the CPU
SIZES = ((100, 50, 300, 20), (1000, 50, 60, 3), (100, 1, 300, 50), (20, 50, 300, 50))
WAYS, EPOCHS, CURVE, EVALUATED, SCHEDULE = ("all", "sparse"), 4, 3, 500, 3280
X_DIM, SHAPES, WEIGHTS = 784, ((50,), ((200, 200),)), 5000
if SIMULATED:  # to try the program itself
    SIZES, EPOCHS, CURVE, EVALUATED = ((4, 3, 2, 2),), 2, 1, 3
    X_DIM, SHAPES, WEIGHTS = 9, ((2,), ((4,),)), 20


def new_model(device, images):
    rng, mean = np.random.default_rng(0), images.mean(axis=0)
    return mv.VAE(X_DIM, *SHAPES, device=device, rng=rng, x_mean=mean)


def run(device, images, batch, k, **settings):
    """A run of the IWAE from the same start, on either device."""
    model = new_model(device, images)
    return mv.train(model, images, "iwae", k, batch=batch, progress=False, **settings)


def ms_per_step(device, images, batch, k, steps, backward):
    """Of the last epochs' median: the first compiles and records."""
    images = images[: batch * steps]
    history = run(device, images, batch, k, epochs=EPOCHS, backward=backward).history
    return 1e3 * float(np.median(history["seconds"][1:])) / steps


def torch_ms(images, batch, k, steps, compiled):
    """The same of PyTorch: the host waits once for all steps."""
    import torch

    params = new_model("cpu", images).params
    _, step, _ = torch_peer(params, images, k, threads.count(), compiled, "cuda")
    times = []
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), device="cuda")
        torch.cuda.synchronize()
        start = time.perf_counter()
        for i in range(steps):
            step(order[i * batch : (i + 1) * batch])
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[1:])) / steps


def race(images):
    """A dict for each size: milliseconds of a step, by contender."""
    rows = []
    for batch, k, steps, cpu_steps in SIZES:
        ms = {}
        for backward in WAYS:
            name = "minivae" if backward == "all" else f"minivae, {backward}"
            size = images, batch, k
            ms[f"{name}, CPU"] = ms_per_step("cpu", *size, cpu_steps, backward)
            ms[f"{name}, GPU"] = ms_per_step("cuda", *size, steps, backward)
        if find_spec("torch") and not SIMULATED:
            for name, compiled in (("PyTorch", False), ("torch.compile", True)):
                ms[name] = torch_ms(images, batch, k, steps, compiled)
        rows.append({"batch": batch, "K": k, "ms": ms})
        print(batch, k, {name: round(t, 3) for name, t in ms.items()}, flush=True)
    return rows


def curves(images):
    """The bound after each epoch, K = 50, batch 100, on either device."""
    batch, k, _, _ = SIZES[0]
    settings = {"batch": batch, "k": k, "epochs": CURVE, "test_images": images[:200]}
    runs = {device: run(device, images, **settings) for device in ("cpu", "cuda")}
    return {device: run.history for device, run in runs.items()}


def evaluations(images):
    """Seconds of evaluating a model on either device, and what it found."""
    result = {}
    for device in ("cpu", "cuda"):
        model = new_model(device, images)
        mv.evaluate(model, images[:2], WEIGHTS, progress=False)  # compiles
        start = time.perf_counter()
        nll = mv.evaluate(model, images[:EVALUATED], WEIGHTS, progress=False).nll
        result[device] = {"seconds": time.perf_counter() - start, "nll": nll}
    return result


def tables(result):
    """The Markdown of the results."""
    names = list(result["steps"][0]["ms"])
    lines = [
        f"| ms per step | {' | '.join(names)} | torch.compile / minivae, GPU |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in result["steps"]:
        ms = row["ms"]
        ratio = ms.get("torch.compile", np.nan) / ms["minivae, GPU"]
        cells = [f"batch {row['batch']}, K = {row['K']}"]
        cells += [f"{t:.3f}" for t in ms.values()] + [f"{ratio:.2f} (target 1)"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "The bound, nats, after each epoch:", "", "| epoch | CPU | GPU |"]
    lines.append("|---|---|---|")
    cpu, gpu = (result["curves"][device] for device in ("cpu", "cuda"))
    for i, epoch in enumerate(cpu["epoch"]):
        both = (
            f"{run['bound'][i]:.3f} (test {run['test_bound'][i]:.3f})"
            for run in (cpu, gpu)
        )
        lines.append(f"| {epoch} | {' | '.join(both)} |")
    seconds = gpu["seconds"][-1]
    lines += [
        "",
        f"An epoch of IWAE, K = 50, batch 100, takes {seconds:.2f} s on the GPU, its"
        f" checkpoint not counted: the paper's {SCHEDULE:,} would take"
        f" {SCHEDULE * seconds / 60:.1f} minutes (target 15).",
        "",
        f"NLL of {EVALUATED} images with {WEIGHTS:,} weights each: "
        + ", ".join(
            f"{e['seconds']:.2f} s on {device} ({e['nll']:.3f} nats)"
            for device, e in result["evaluation"].items()
        ),
        "",
        result["machine"],
    ]
    return lines


def main(out):
    """Measure, and write into the folder ``out``."""
    images = mv.load("mnist").train_images
    if SIMULATED:
        images = images[:8, 300:309].copy()
    packages = "numpy", "numba", "numba-cuda", "cupy-cuda13x", "torch"
    result = {
        "machine": f"{card()}; {processor()}, {threads.count()} threads;"
        f" {versions(*packages)}; medians of {EPOCHS - 1} epochs",
        "steps": race(images),
        "curves": curves(images),
        "evaluation": evaluations(images),
    }
    lines = tables(result)
    out.mkdir(exist_ok=True, parents=True)
    (out / "training.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "training.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), f"\n\nwritten: {out / 'training.md'}")
