"""Time minivae's training step, and its evaluation, against PyTorch and JAX.

The model is the paper's, 784-200-200-50, with the IWAE bound, in float32; a step
binarizes a batch of MNIST, draws eps, differentiates and takes a step of Adam. All
contenders start from the parameters that minivae has after 500 steps, and take turns in
one process: A B C, A B C, ... . Before they are timed, their losses on the same pixels
and noise are compared. Run it with nothing else running:

    pip install -e '.[bench]'
    python benchmarks/training.py
    python benchmarks/training.py --device cuda --out FOLDER

Peers that are missing are named and left out. Writes results/training.json and
results/training.md, and the table into the README; with --device cuda, what gpu.py
measures, into FOLDER.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu
import numpy as np
from machine import RESULTS, median_ms, processor, sgemm_rate, versions
from peers import peers

import minivae as mv
from minivae.engine.batching import chunks, shards
from minivae.engine.objective import resolve
from minivae.engine.threads import count, each
from minivae.settings import check_settings
from minivae.training import Training, step_gradient

SIZES = ((100, 1), (100, 5), (100, 50), (20, 1), (20, 5), (20, 50))
TRAINED, ROUNDS, PER_ROUND, DISCARDED = 500, 8, 10, 4
# at least this many times as fast as the fastest peer: dense, sparse
TARGETS = {
    (100, 1): (1.4, None),
    (100, 5): (1.4, 1.6),
    (100, 50): (1.3, 3),
    (20, 1): (1.8, None),
    (20, 5): (1.6, 2.2),
    (20, 50): (1.4, 3),
}


def minivae_step(model, images, k, backward):
    """A function of the numbers of a batch's images: one step of training."""
    how = {"bound": "iwae", "estimator": "reparam", "backward": backward, "tau": 0.1}
    settings = check_settings(
        model, k=k, options={}, epochs=1, learning_rate=1e-3, stages=None, batch=1,
        epsilon=1e-8, binarization="dynamic", seed=0, data=None, **how,
    )  # fmt: skip
    objective = resolve(model, k, options={}, **how)
    adam, numbers = mv.Adam(model.params), itertools.count(1)
    training = Training(model, images, settings, objective, adam, np.zeros(()))

    def step(indices):
        value, grads = step_gradient(training, indices, 1, next(numbers))
        if not (np.isfinite(float(value)) and adam.step(grads)):
            raise mv.NonFiniteError("in a step that was to be timed")

    return step


def trained(images, B, K):
    """The one-layer model after `TRAINED` steps."""
    rng = np.random.default_rng(0)
    model = mv.VAE(784, rng=rng, x_mean=images.mean(axis=0))
    step = minivae_step(model, images, K, "all")
    for _ in range(TRAINED):
        step(rng.integers(0, len(images), B))
    return model


def copy_of(model):
    other = mv.VAE(784, rng=np.random.default_rng(0))
    other.params.vector[:] = model.params.vector
    return other


def floor_ms(B, K):
    """The step's matrix products alone, in shards and chunks as minivae has them."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    q = [normal(784, 200), normal(200, 200), normal(200, 50), normal(200, 50)]
    p = [normal(50, 200), normal(200, 200), normal(200, 784)]
    x, h1, h2, dz = normal(B, 784), normal(B, 200), normal(B, 200), normal(B, 50)
    rows = max(part.stop - part.start for part in chunks(slice(0, B), K)) * K
    a = [normal(rows, n) for n in (50, 200, 200, 784)]
    da = [normal(rows, n) for n in (50, 200, 200, 784)]  # else BLAS sees A.T A

    def products(shard):
        for images in chunks(shard, K):
            n, r = images.stop - images.start, (images.stop - images.start) * K
            for layer, W in zip((x, h1, h2, h2), q):
                layer[:n] @ W
            for layer, W in zip(a, p):
                layer[:r] @ W
            for i in (2, 1, 0):
                a[i][:r].T @ da[i + 1][:r]
                da[i + 1][:r] @ p[i].T
            for W in q[2:]:
                h2[:n].T @ dz[:n]
                dz[:n] @ W.T
            h1[:n].T @ h2[:n]
            h2[:n] @ q[1].T
            x[:n].T @ h1[:n]

    return median_ms(lambda: each(products, shards(0, B, K)), repeats=30)


def race(contenders, images, B, rounds):
    """Name -> milliseconds of a step, the median of each round; they take turns."""
    rng, medians = np.random.default_rng(1), {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in contenders.items():
            time.sleep(0.1)  # so that the last one's threads have gone to sleep
            times = []
            for _ in range(DISCARDED + PER_ROUND):
                indices = rng.integers(0, len(images), B)
                start = time.perf_counter()
                step(indices)
                times.append(time.perf_counter() - start)
            medians[name].append(1e3 * float(np.median(times[DISCARDED:])))
    return medians


def race_steps(images, B, K):
    """One line of the table, as a dict."""
    model, rng = trained(images, B, K), np.random.default_rng(2)
    x = mv.binarize(images[:B], rng)
    eps = model.draw_eps(B, K, rng)
    ours = -mv.bound_and_grad(model, x, eps)[0]
    found, _ = peers(model.params, images, K, count())
    losses = {name: loss(x, eps[0]) for name, (loss, _, _) in found.items()}
    for name, loss in losses.items():
        if abs(loss - ours) > 1e-4 * abs(ours):
            raise SystemExit(f"{name} computes something else: {loss}, not {ours}")
    contenders = {
        "minivae": minivae_step(copy_of(model), images, K, "all"),
        "sparse": minivae_step(copy_of(model), images, K, "sparse"),
    }
    contenders |= {name: step for name, (_, step, _) in found.items()}
    race(contenders, images, B, rounds=1)  # compiles and warms up
    rounds = race(contenders, images, B, ROUNDS)
    row = {"B": B, "K": K, "loss": ours, "rounds": rounds}
    row["floor_ms"] = floor_ms(B, K)
    row["ms"] = {name: float(np.median(times)) for name, times in rounds.items()}
    return row


def at_full_speed(peak, n_threads, measure, tries=4):
    """What ``measure()`` returns, with the sgemm rates before it and after it. A shared
    machine has slow minutes: if one of the two is below 90 % of ``peak``, the
    measurement is taken again, and the last of ``tries`` is kept.
    """
    for left in reversed(range(tries)):
        before = sgemm_rate(n_threads)
        row = measure()
        row["sgemm_gflops"] = before, sgemm_rate(n_threads)
        if min(row["sgemm_gflops"]) >= 0.9 * peak or not left:
            return row
        print("the machine is slow, once more:", row["sgemm_gflops"], flush=True)


def times_as_fast(row, name):
    """As the fastest peer: the median of the rounds' ratios, since a round is short and
    a machine may be slow for longer.
    """
    others = [peer for peer in row["ms"] if peer not in ("minivae", "sparse")]
    if not others:
        return np.nan
    best = min(others, key=row["ms"].get)
    return float(np.median(np.divide(row["rounds"][best], row["rounds"][name])))


def race_evaluation(images, k=5000, n=20):
    """Seconds of the NLL of ``n`` images with ``k`` weights each, and the rate."""
    model = trained(images, 100, 5)
    x = mv.binarize(images[:n], np.random.default_rng(0))
    found, _ = peers(model.params, images, 5, count())
    contenders = {
        "minivae": lambda: mv.evaluate(model, x, k, progress=False).nll,
    } | {name: lambda f=f: f(x, k) for name, (_, _, f) in found.items()}
    nll = {name: f() for name, f in contenders.items()}
    if max(nll.values()) - min(nll.values()) > 0.5:
        raise SystemExit(f"the evaluations differ: {nll}")
    times = {name: [] for name in contenders}
    for _ in range(5):
        for name, f in contenders.items():
            time.sleep(0.1)
            start = time.perf_counter()
            f()
            times[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(t)) for name, t in times.items()}
    flops = 2 * n * k * (50 * 200 + 200 * 200 + 200 * 784)
    rate = {name: flops / t / 1e9 for name, t in seconds.items()}
    return {"images": n, "k": k, "seconds": seconds, "gflops": rate, "nll": nll}


def linearity(images):
    """The step's time against K and against B, with the share of its variance that a
    line explains.
    """
    result = {}
    for what, sizes in {
        "K": [(100, K) for K in (1, 5, 10, 20, 35, 50)],
        "B": [(B, 20) for B in (20, 50, 100, 150, 200)],
    }.items():
        ms = []
        for B, K in sizes:
            model = mv.VAE(784, rng=np.random.default_rng(0))
            step = minivae_step(model, images, K, "all")
            ms.append(median_ms(step, np.arange(B), repeats=30))
        at = [K if what == "K" else B for B, K in sizes]
        slope, start = np.polyfit(at, ms, 1)
        left = np.sum((np.polyval((slope, start), at) - ms) ** 2)
        r2 = 1 - left / np.sum((ms - np.mean(ms)) ** 2)
        result[what] = {"at": at, "ms": ms, "slope": slope, "start": start, "r2": r2}
    return result


# Run in a process of its own: what has been used above the level after import
MEMORY = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np, minivae as mv
from pathlib import Path
from training import minivae_step
from peers import peers, torch_peer, jax_peer
def kilobytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith(what)).split()[1])
name = {name!r}
if name == "JAX": import jax.numpy
if "orch" in name: import torch
images = np.random.default_rng(0).random((2000, 784), np.float32)
model = mv.VAE(784, rng=np.random.default_rng(0))
level = kilobytes("VmRSS")
if name == "evaluate":
    mv.evaluate(model, images[:50], k={k}, progress=False)
else:
    if name == "minivae": step = minivae_step(model, images, {k}, "all")
    elif name == "sparse": step = minivae_step(model, images, {k}, "sparse")
    elif name == "JAX": _, step, _ = jax_peer(model.params, images, {k}, 2)
    else:
        mode = "eager" if name == "PyTorch" else "compiled"
        _, step, _ = torch_peer(model.params, images, {k}, 2, mode)
    for _ in range(5): step(np.arange(100))
print((kilobytes("VmHWM") - level) / 1024)
"""


def memory_mb(name, k):
    code = MEMORY.format(folder=str(Path(__file__).parent), name=name, k=k)
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(output.stdout.split()[-1])


FIRST = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np, minivae as mv
from training import minivae_step
images = np.random.default_rng(0).random((100, 784), np.float32)
model = mv.VAE(784, rng=np.random.default_rng(0))
minivae_step(model, images, 5, "all")(np.arange(100))
"""


def start_up():
    """Seconds from starting python to the end of its first step."""
    code = FIRST.format(folder=str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as cache:
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            env = os.environ | {"NUMBA_CACHE_DIR": cache}
            subprocess.run([sys.executable, "-c", code], env=env, check=True)
            seconds.append(time.perf_counter() - start)
    return {"cold": seconds[0], "warm": float(np.median(seconds[1:]))}


def tables(result):
    """The Markdown of the results: the README's table first."""
    names = [n for n in result["steps"][0]["ms"] if n not in ("minivae", "sparse")]
    lines = [
        f"| ms per step | {' | '.join(names)} | minivae | times as fast |"
        " minivae, sparse | times as fast | products alone | minivae / those |",
        "|---" * (len(names) + 7) + "|",
    ]
    for row in result["steps"]:
        ms, target = row["ms"], TARGETS[row["B"], row["K"]]

        def ratio(name, goal):
            value = times_as_fast(row, name)
            if goal is None or not value > 0:
                return "-"
            return f"{value:.2f} (target {goal:g}{', missed' if value < goal else ''})"

        cells = [f"batch {row['B']}, K = {row['K']}"]
        cells += [f"{ms[name]:.2f}" for name in names]
        cells += [f"{ms['minivae']:.2f}", ratio("minivae", target[0])]
        sparse = "-" if target[1] is None else f"{ms['sparse']:.2f}"
        cells += [sparse, ratio("sparse", target[1])]
        cells += [f"{row['floor_ms']:.2f}", f"{ms['minivae'] / row['floor_ms']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    readme = [*lines, "", result["machine"]]

    ev, mem = result["evaluation"], result["memory_mb"]
    peak = result["sgemm_gflops"]
    rest = [
        "",
        f"Evaluation, {ev['images']} images, k = {ev['k']}:",
        "",
        "| | seconds | GFLOP/s of its products | of sgemm's rate |",
        "|---|---|---|---|",
        *(
            f"| {name} | {ev['seconds'][name]:.2f} | {ev['gflops'][name]:.0f} |"
            f" {ev['gflops'][name] / peak:.0%} |"
            for name in ev["seconds"]
        ),
        "",
        "Peak memory above the level after import, MB:",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value:.0f} |" for name, value in mem.items()),
        "",
        "Time of a dense step, by a line fitted to it:",
        "",
        "| against | sizes | ms | per unit, ms | at zero, ms | R^2 |",
        "|---|---|---|---|---|---|",
        *(
            f"| {what} | {', '.join(map(str, fit['at']))} |"
            f" {', '.join(f'{t:.1f}' for t in fit['ms'])} | {fit['slope']:.3f} |"
            f" {fit['start']:.2f} | {fit['r2']:.4f} |"
            for what, fit in result["linearity"].items()
        ),
        "",
        "From starting python to the end of the first step:"
        f" {result['start_up']['warm']:.1f} s with compiled kernels on disk,"
        f" {result['start_up']['cold']:.1f} s when they are compiled.",
    ]
    return "\n".join(readme), "\n".join([*readme, *rest])


def write_into_readme(table):
    """Put the table between the README's two markers."""
    path = RESULTS.parent.parent / "README.md"
    text = path.read_text(encoding="utf-8")
    begin, end = "<!-- benchmarks/training.py writes this -->", "<!-- until here -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    new = f"{before}{begin}\n{table}\n{end}{after}"
    path.write_text(new, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description="Time a step against PyTorch and JAX.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="of cuda: a folder")
    args = parser.parse_args()
    if args.device == "cuda":
        gpu.main(args.out)
        return
    images = mv.load("mnist").train_images
    n_threads = count()
    model = mv.VAE(784, rng=np.random.default_rng(0))
    _, missing = peers(model.params, images[:1], 1, n_threads)
    for name in missing:
        print(f"{name} is not installed: pip install -e '.[bench]'")
    peak = max(sgemm_rate(n_threads) for _ in range(5))
    result = {
        "sgemm_gflops": peak,
        "machine": f"{processor()}, {n_threads} threads, sgemm {peak:.0f} GFLOP/s;"
        f" {versions('numpy', 'numba', 'torch', 'jax')}; medians of"
        f" {ROUNDS} rounds of {PER_ROUND} steps, taking turns; sparse: tau = 0.1 after"
        f" {TRAINED} steps",
        "steps": [],
    }
    for B, K in SIZES:
        row = at_full_speed(peak, n_threads, lambda: race_steps(images, B, K))
        print(B, K, {name: round(t, 2) for name, t in row["ms"].items()},
              f"products {row['floor_ms']:.2f}", flush=True)  # fmt: skip
        result["steps"].append(row)
    result["evaluation"] = race_evaluation(images)
    names = ["minivae", "sparse", *list(result["evaluation"]["seconds"])[1:]]
    memory = {f"{name}, a step, B = 100, K = 50": memory_mb(name, 50) for name in names}
    for k in (500, 5000):
        memory[f"minivae, evaluation of 50 images, k = {k}"] = memory_mb("evaluate", k)
    result |= {"memory_mb": memory, "linearity": linearity(images)}
    result["start_up"] = start_up()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.json").write_text(json.dumps(result, indent=2) + "\n")
    readme, everything = tables(result)
    (RESULTS / "training.md").write_text(everything + "\n")
    write_into_readme(readme)
    print(f"\n{everything}\n\nwritten: {RESULTS / 'training.md'}")


if __name__ == "__main__":
    main()
