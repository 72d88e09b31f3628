"""Training on a GPU: against the CPU, against PyTorch on the same card, and what the
paper's whole schedule would take.

    python benchmarks/training.py --device cuda --out FOLDER
    python benchmarks/gpu.py FOLDER     # draws what that and kernels.py have measured

The model is the paper's, 784-200-200-50, float32, IWAE. A step's time is an epoch's by
the number of its steps, as `minivae train` has it, with everything: the order, the
pixels, eps, Adam. PyTorch binarizes on the card, too; "torch.compile" replays a CUDA
graph of the forward pass and one of the backward pass, "torch.compile, one graph" a
graph of the whole step, as minivae does. Each size has a process of its own, so that
nothing compiled for one is used for another.

Products are float32's on either side. For the sizes that torch.compile takes part in, a
second column is measured with TF32 allowed to both, by which a product's factors are
rounded to 10 bits: PyTorch by its switch, minivae, whose products are cuBLAS's own and
not CuPy's, by cuBLAS's.
"""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from machine import (
    card,
    grouped_bars,
    need_gpu,
    processor,
    recordings_must_succeed,
    versions,
)
from peers import torch_peer

import minivae as mv
from minivae.engine.recording import own_stream, second_stream
from minivae.engine.threads import count
from minivae.kernels import matmul
from minivae.kernels.device import SIMULATED

# batch, K, steps of an epoch on the GPU and on the CPU; torch.compile takes a minute
SIZES = ((100, 50, 300, 20), (1000, 50, 60, 3), (100, 1, 300, 50), (20, 50, 300, 50))
COMPILED = SIZES[:2]
EPOCHS, CURVE_IMAGES, CURVE, SCHEDULE = 4, 20_000, 3, 3280
EVALUATED = {"cpu": 200, "cuda": 10_000}  # images
TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH
FOLDER = Path(__file__).parent
X_DIM, SHAPES, WEIGHTS = 784, ((50,), ((200, 200),)), 5000
if SIMULATED:  # to try the program itself
    SIZES, COMPILED, EPOCHS, CURVE = ((4, 3, 2, 2),), (), 2, 1
    EVALUATED = {"cpu": 3, "cuda": 5}
    X_DIM, SHAPES, WEIGHTS = 9, ((2,), ((4,),)), 20


def new_model(device, images):
    rng, mean = np.random.default_rng(0), images.mean(axis=0)
    return mv.VAE(X_DIM, *SHAPES, device=device, rng=rng, x_mean=mean)


def history_of(device, images, batch, k, **settings):
    """Of a run of the IWAE, from the same start on either device."""
    model, size = new_model(device, images), {"batch": batch, "k": k}
    return mv.train(model, images, "iwae", **size, progress=False, **settings).history


def ms_per_step(device, images, batch, k, steps, backward):
    """The median of the last epochs: the first compiles and records."""
    settings = {"epochs": EPOCHS, "backward": backward}
    history = history_of(device, images[: batch * steps], batch, k, **settings)
    return 1e3 * float(np.median(history["seconds"][1:])) / steps


def torch_ms(images, batch, k, steps, mode):
    """The same of PyTorch; its host waits once for all steps."""
    import torch

    params = new_model("cpu", images).params
    _, step, _ = torch_peer(params, images, k, count(), mode, "cuda")
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


def allow_tf32():
    """To cuBLAS in both of minivae's streams, and to PyTorch."""
    for stream in (own_stream(), second_stream()):
        handle, _ = matmul.handle(stream.ptr)
        matmul.succeed(matmul.library().cublasSetMathMode(handle, TF32))
    if find_spec("torch"):
        import torch

        torch.set_float32_matmul_precision("high")


def race(number, tf32):
    """Milliseconds of a step of a size, by contender; or why there are none."""
    recordings_must_succeed()
    if tf32:
        allow_tf32()
    size, images = SIZES[number], training_images()
    batch, k, steps, cpu_steps = size
    ms = {}
    for name, backward in (("minivae", "all"), ("minivae, sparse", "sparse")):
        here = images, batch, k
        if not tf32:
            ms[f"{name}, CPU"] = ms_per_step("cpu", *here, cpu_steps, backward)
        ms[f"{name}, GPU"] = ms_per_step("cuda", *here, steps, backward)
    modes = {"PyTorch": "eager"}
    if size in COMPILED:
        modes |= {"torch.compile": "compiled", "torch.compile, one graph": "one graph"}
    for name, mode in modes.items() if find_spec("torch") and not SIMULATED else ():
        try:
            ms[name] = torch_ms(images, batch, k, steps, mode)
        except Exception as error:  # a peer's failure is a result, too
            ms[name] = f"failed: {error!r:.200}"
    return ms


def in_a_process(number, tf32):
    """`race` in a process of its own."""
    code = (
        f"import json; from gpu import race; print(json.dumps(race({number}, {tf32})))"
    )
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    }
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(output.stdout.decode().splitlines()[-1])


def training_images():
    images = mv.load("mnist").train_images
    return images[:8, 300:309].copy() if SIMULATED else images


def curves(images):
    """The bound after each epoch, K = 50, batch 100, on either device."""
    batch, k, _, _ = SIZES[0]
    images = images[:CURVE_IMAGES]
    settings = {"epochs": CURVE, "test_images": images[:200]}
    return {
        device: history_of(device, images, batch, k, **settings)
        for device in ("cpu", "cuda")
    }


def epoch_seconds(images):
    """Of all images on the GPU, K = 50, batch 100: the second epoch and the third."""
    batch, k, _, _ = SIZES[0]
    return history_of("cuda", images, batch, k, epochs=3)["seconds"][1:]


def evaluations(images):
    """Seconds of evaluating a model on either device, and what it found."""
    result = {}
    for device in ("cpu", "cuda"):
        model = new_model(device, images)
        mv.evaluate(model, images[:2], WEIGHTS, progress=False)  # compiles
        for n in sorted({EVALUATED["cpu"], EVALUATED[device]}):
            start = time.perf_counter()
            nll = mv.evaluate(model, images[:n], WEIGHTS, progress=False).nll
            seconds = time.perf_counter() - start
            result[f"{n:,} images, {device}"] = {"seconds": seconds, "nll": nll}
    return result


def figures(ms, name):
    """A contender's time, and how many times as fast minivae's step is on the GPU."""
    if name not in ms:
        return "-", "-"
    if isinstance(ms[name], str):  # it failed
        return ms[name], "-"
    return f"{ms[name]:.3f}", f"{ms[name] / ms['minivae, GPU']:.2f} times"


def tables(result):
    """The Markdown of what has been measured so far."""
    lines = [result["machine"]]
    for row in result["steps"]:
        both = [row["ms"], row.get("ms_tf32", {})]
        lines += ["", f"Batch {row['batch']}, K = {row['K']}:", ""]
        lines += ["| | float32, ms per step | minivae, GPU, is as fast | TF32 | |"]
        lines += ["|---" * 5 + "|"]
        for name in row["ms"]:
            cells = [cell for ms in both for cell in figures(ms, name)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        for how, ms in zip(("float32", "TF32"), both):
            times = [t for name, t in ms.items() if name.startswith("torch.compile")]
            if times := [t for t in times if not isinstance(t, str)]:
                ratio = min(times) / ms["minivae, GPU"]
                against = f"Against the fastest torch.compile, {how}: {ratio:.2f}"
                lines += ["", f"{against}{' (target 1)' * (how == 'float32')}."]
    if "epoch_seconds" in result:
        seconds = float(np.mean(result["epoch_seconds"]))
        lines += [
            "",
            f"An epoch of IWAE, K = 50, batch 100, takes {seconds:.2f} s on the GPU,"
            f" its checkpoint not counted: the paper's {SCHEDULE:,} would take"
            f" {SCHEDULE * seconds / 60:.1f} minutes (target 15).",
        ]
    if "curves" in result:
        cpu, gpu = (result["curves"][device] for device in ("cpu", "cuda"))
        lines += ["", "The bound after each epoch, in training and on test images:", ""]
        lines += ["| epoch | CPU, nats | GPU, nats |", "|---|---|---|"]
        for i, epoch in enumerate(cpu["epoch"]):
            both = (
                f"{run['bound'][i]:.3f}, {run['test_bound'][i]:.3f}"
                for run in (cpu, gpu)
            )
            lines.append(f"| {epoch} | {' | '.join(both)} |")
    if "evaluation" in result:
        found = (
            f"{e['seconds']:.2f} s for {what} ({e['nll']:.3f} nats)"
            for what, e in result["evaluation"].items()
        )
        target = f"target for {EVALUATED['cuda']:,} on cuda: 10 s"
        lines += ["", f"NLL with {WEIGHTS:,} weights: {', '.join(found)}; {target}."]
    return lines


def draw(folder):
    """steps.png and kernels.png, from what was measured into ``folder``."""
    from matplotlib.figure import Figure

    result = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    axes, groups = figure.subplots(), {}
    for row in result["steps"]:
        times = {name: t for name, t in row["ms"].items() if not isinstance(t, str)}
        groups[f"batch {row['batch']}, K = {row['K']}"] = times
    grouped_bars(axes, groups)
    card, cpu, *_ = result["machine"].split("; ")
    axes.set(ylabel="ms per step, float32", yscale="log", title=f"{card}; {cpu}")
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    figure.savefig(folder / "steps.png")

    rows = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
    most = max(row["images"] for row in rows)
    rows = [r for r in rows if r["images"] == most and r["version"] == "cuda"]
    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.barh([row["kernel"] for row in rows], [100 * row["of_copy"] for row in rows])
    axes.axvline(80, color="0.3", linestyle=":", label="target, if it moves memory")
    axes.set(xlabel=f"% of a copy's rate, {most:,} images, K = 50")
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    figure.savefig(folder / "kernels.png")


def main(out):
    """Measure, and write into the folder ``out``, after each measurement again."""
    need_gpu()
    recordings_must_succeed()
    images = training_images()
    packages = "numpy", "numba", "numba-cuda", "cupy-cuda13x", "torch"
    machine = f"{card()}; {processor()}, {count()} threads"
    machine += f"; {versions(*packages)}; medians of {EPOCHS - 1} epochs"
    result = {"machine": machine, "steps": []}
    out.mkdir(exist_ok=True, parents=True)

    def save():
        (out / "training.json").write_text(json.dumps(result, indent=1) + "\n")
        text = "\n".join(tables(result)) + "\n"
        (out / "training.md").write_text(text, encoding="utf-8")

    result["epoch_seconds"] = epoch_seconds(images)
    save()
    for what, measure in (("curves", curves), ("evaluation", evaluations)):
        result[what] = measure(images)
        save()
    for number, (batch, k, *_) in enumerate(SIZES):
        row = {"batch": batch, "K": k, "ms": in_a_process(number, False)}
        print(row, flush=True)
        result["steps"].append(row)
        save()
    for number, row in enumerate(result["steps"][: len(COMPILED)]):
        row["ms_tf32"] = in_a_process(number, True)
        print(row, flush=True)
        save()
    print("\n".join(tables(result)), f"\n\nwritten: {out / 'training.md'}")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
