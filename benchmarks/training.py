"""Time minivae's training step, and its evaluation, against PyTorch and JAX.

The models are the paper's, with one and with two stochastic layers, the IWAE bound, in
float32; a step binarizes a batch of MNIST, draws eps, differentiates and takes a step
of Adam. All contenders start from the same trained parameters and images, and take
turns: A B C, A B C, ... . Each size has a process of its own, so that nothing compiled
for one is used for another. Before they are timed, their losses on the same pixels and
noise are compared. Run it with nothing else running:

    pip install -e '.[bench]'
    python benchmarks/training.py
    python benchmarks/training.py --minutes 8
    python benchmarks/training.py --steps 20000
    python benchmarks/training.py --threads 1
    python benchmarks/training.py --device cuda --out FOLDER

Peers that are missing are named and left out. Writes results/training.json and
results/training.md, and the table into the README; with --steps or --threads only the
steps are timed, into files of their own (training_20000_steps.md). With --minutes, as
many sizes as fit into them, and no file is written. With --device cuda, what gpu.py
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
from peers import missing_peers, peers

import minivae as mv
from minivae.engine.batching import chunks, shards
from minivae.engine.objective import resolve
from minivae.engine.threads import count, each
from minivae.presets import ARCHITECTURES
from minivae.runs import initial_state
from minivae.settings import check_settings
from minivae.training import Training, step_gradient, take_step

STEPS, ROUNDS, PER_ROUND, DISCARDED = 500, 8, 10, 4
# (stochastic layers, batch, K) -> at least this many times as fast as the fastest peer:
# dense, sparse
TARGETS = {
    (1, 100, 1): (1.3, None),
    (1, 100, 5): (1.5, 1.8),
    (1, 100, 50): (2.5, 4.5),
    (1, 20, 1): (1.2, None),
    (1, 20, 5): (1.5, 1.8),
    (1, 20, 50): (1.7, 2.5),
    (2, 20, 1): (1.3, None),
    (2, 20, 5): (1.3, None),
    (2, 20, 50): (1.3, None),
}
FOLDER = Path(__file__).parent
WEIGHTS = FOLDER.parent / "runs" / "benchmark"  # the trained models, made once


def minivae_step(model, images, k, backward, learning_rate=1e-3):
    """A function of the numbers of a batch's images: one step of training."""
    how = {"bound": "iwae", "estimator": "reparam", "backward": backward, "tau": 0.1}
    settings = check_settings(
        model, k=k, options={}, epochs=1, learning_rate=learning_rate, stages=None,
        schedule="constant", average=None, batch=1, epsilon=1e-8,
        binarization="dynamic", seed=0, **how,
    )  # fmt: skip
    training = Training(
        model=model,
        images=images,
        settings=settings,
        objective=resolve(model, k, options={}, **how),
        adam=mv.Adam(model.params),
        state=initial_state(model, None),
    )
    numbers = itertools.count(1)

    def step(indices):
        value, grads = step_gradient(training, indices, 1, next(numbers))
        if not (
            np.isfinite(float(value)) and take_step(training, grads, learning_rate)
        ):
            raise mv.NonFiniteError("in a step that was to be timed")

    return step


def new_model(layers, images):
    rng = np.random.default_rng(0)
    return mv.VAE(784, **ARCHITECTURES[layers], rng=rng, x_mean=images.mean(axis=0))


def trained(images, layers=1, steps=STEPS):
    """The paper's model after so many steps with K = 50 at batch 100, kept in `WEIGHTS`
    for the next time. The many steps of a late model take the sparse backward pass.
    """
    path = WEIGHTS / f"{layers}_layers_{steps}_steps.npy"
    model = new_model(layers, images)
    if not path.exists():
        print(f"training {path.stem.replace('_', ' ')}", file=sys.stderr, flush=True)
        rng, backward = np.random.default_rng(0), "all" if steps <= STEPS else "sparse"
        step = minivae_step(model, images, 50, backward)
        for _ in range(steps):
            step(rng.integers(0, len(images), 100))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, model.params.vector)
    model.params.vector[:] = np.load(path)
    return model


def kept_rows(model, images, B, K):
    """The part of a dense step's rows that are above rounding."""
    kept, real = [], model.ops.coefficients

    def spy(*arguments):
        keep, *coefficients = real(*arguments)
        kept.append(keep.mean())
        return keep, *coefficients

    model.ops.coefficients = spy
    x = mv.binarize(images[:B], np.random.default_rng(2))
    mv.bound_and_grad(model, x, model.draw_eps(B, K, np.random.default_rng(3)))
    model.ops.coefficients = real
    return float(np.mean(kept))


def copy_of(model):
    other = new_model(len(model.latent_dims), np.full((1, 784), 0.5))
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


def race_steps(layers, B, K, steps):
    """One line of the table, as a dict."""
    images = mv.load("mnist").train_images
    model, rng = trained(images, layers, steps), np.random.default_rng(2)
    x = mv.binarize(images[:B], rng)
    eps = model.draw_eps(B, K, rng)
    ours = -mv.bound_and_grad(model, x, eps)[0]
    found = peers(model.params, images, K, count())
    losses = {name: loss(x, eps) for name, (loss, _, _) in found.items()}
    for name, loss in losses.items():
        if abs(loss - ours) > 1e-4 * abs(ours):
            raise SystemExit(f"{name} computes something else: {loss}, not {ours}")
    contenders = {"minivae": minivae_step(copy_of(model), images, K, "all")}
    if TARGETS[layers, B, K][1] is not None:
        contenders["sparse"] = minivae_step(copy_of(model), images, K, "sparse")
    contenders |= {name: step for name, (_, step, _) in found.items()}
    race(contenders, images, B, rounds=1)  # compiles and warms up
    before = sgemm_rate(count())
    rounds = race(contenders, images, B, ROUNDS)
    row = {"layers": layers, "B": B, "K": K, "steps": steps, "loss": ours}
    row |= {"rounds": rounds, "kept": kept_rows(model, images, B, K)}
    row["sgemm_gflops"] = before, sgemm_rate(count())
    row["floor_ms"] = floor_ms(B, K) if layers == 1 else None
    row["ms"] = {name: float(np.median(times)) for name, times in rounds.items()}
    return row


def row_of(threads, *size):
    """`race_steps` in a process of its own, on so many cores."""
    code = "import json; from training import race_steps"
    code += f"; print(json.dumps(race_steps{size}))"
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(FOLDER)}
    cores = sorted(os.sched_getaffinity(0))[:threads]  # JAX has no other limit
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return json.loads(output.stdout.decode().splitlines()[-1])


def at_full_speed(peak, measure, tries):
    """What ``measure()`` returns. A shared machine has slow minutes: if sgemm, before
    or after, was below 90 % of ``peak``, the row is taken again; the last is kept.
    """
    for left in reversed(range(tries)):
        row = measure()
        if min(row["sgemm_gflops"]) >= 0.9 * peak or not left:
            return row
        print("the machine is slow, once more:", row["sgemm_gflops"], flush=True)


TWO_RUNS = """
import time, numpy as np, minivae as mv
from training import minivae_step, trained
images = mv.load("mnist").train_images
step, rng = minivae_step(trained(images), images, {K}, "all"), np.random.default_rng(0)
for _ in range(10): step(rng.integers(0, len(images), {B}))
done, start = 0, time.perf_counter()
while time.perf_counter() - start < 10:
    step(rng.integers(0, len(images), {B}))
    done += 1
print(done / (time.perf_counter() - start))
"""


def two_runs(B, K):
    """Steps a second: of one run on two threads, and of two runs on one thread each at
    the same time, together.
    """

    def steps_a_second(runs, threads):
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(FOLDER)}
        command = [sys.executable, "-c", TWO_RUNS.format(B=B, K=K)]
        how = {"env": env, "stdout": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen(command, **how) for _ in range(runs)]
        return sum(float(process.communicate()[0]) for process in processes)

    return {"B": B, "K": K, "one": steps_a_second(1, 2), "two": steps_a_second(2, 1)}


def times_as_fast(row, name):
    """As the fastest peer: the median of the rounds' ratios, since a round is short and
    a machine may be slow for longer.
    """
    others = [peer for peer in row["ms"] if peer not in ("minivae", "sparse")]
    if not others or name not in row["ms"]:
        return np.nan
    best = min(others, key=row["ms"].get)
    return float(np.median(np.divide(row["rounds"][best], row["rounds"][name])))


def race_evaluation(images, k=5000, n=20):
    """Seconds of the NLL of ``n`` images with ``k`` weights each, and the rate."""
    model = trained(images)
    x = mv.binarize(images[:n], np.random.default_rng(0))
    found = peers(model.params, images, 5, count())
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


def steps_table(result):
    """The Markdown of the steps: the README's table."""
    names = [n for n in result["steps"][0]["ms"] if n not in ("minivae", "sparse")]
    lines = [
        f"| ms per step | {' | '.join(names)} | minivae | times as fast |"
        " minivae, sparse | times as fast | rows kept | products alone |",
        "|---" * (len(names) + 7) + "|",
    ]
    for row in result["steps"]:
        ms, target = row["ms"], TARGETS[row["layers"], row["B"], row["K"]]

        def ratio(name, goal):
            value = times_as_fast(row, name)
            if goal is None or not value > 0:
                return "-"
            return f"{value:.2f} (target {goal:g}{', missed' if value < goal else ''})"

        layers = "" if row["layers"] == 1 else f"{row['layers']} layers, "
        cells = [f"{layers}batch {row['B']}, K = {row['K']}"]
        cells += [f"{ms[name]:.2f}" for name in names]
        cells += [f"{ms['minivae']:.2f}", ratio("minivae", target[0])]
        cells += [f"{ms['sparse']:.2f}" if "sparse" in ms else "-"]
        cells += [ratio("sparse", target[1]), f"{row['kept']:.0%}"]
        cells += [f"{row['floor_ms']:.2f}" if row["floor_ms"] else "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", result["machine"]])


def tables(result):
    """The Markdown of all results: the README's table first."""
    readme = steps_table(result)
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
        "Steps a second, dense:",
        "",
        "| | one run on two threads | two runs at once on one each | times |",
        "|---|---|---|---|",
        *(
            f"| batch {B}, K = {K} | {one:.0f} | {two:.0f} | {two / one:.2f} |"
            for B, K, one, two in (run.values() for run in result["two_runs"])
        ),
        "",
        "From starting python to the end of the first step:"
        f" {result['start_up']['warm']:.1f} s with compiled kernels on disk,"
        f" {result['start_up']['cold']:.1f} s when they are compiled.",
    ]
    return readme, "\n".join([readme, *rest])


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
    parser.add_argument(
        "--threads", type=int, help="How many cores to use, if not all."
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="How long the model was trained."
    )
    parser.add_argument(
        "--minutes", type=float, help="Time the sizes that fit into them, and no more."
    )
    args = parser.parse_args()
    began, longest = time.monotonic(), 0.0
    if args.device == "cuda":
        gpu.main(args.out)
        return
    images = mv.load("mnist").train_images
    n_threads = args.threads or count()
    sys.stdout.reconfigure(line_buffering=True)  # progress, into a file too
    for name in missing_peers():
        print(f"{name} is not installed: pip install -e '.[bench]'")
    for layers in sorted({layers for layers, _, _ in TARGETS}):
        trained(images, layers, args.steps)
    peak = max(sgemm_rate(n_threads) for _ in range(5))
    result = {
        "sgemm_gflops": peak,
        "machine": f"{processor()}, {n_threads} threads, sgemm {peak:.0f} GFLOP/s;"
        f" {versions('numpy', 'numba', 'torch', 'jax')}; float32, medians of"
        f" {ROUNDS} rounds of {PER_ROUND} steps, taking turns, from parameters trained"
        f" for {args.steps:,} steps; sparse: tau = 0.1",
        "steps": [],
    }
    for number, size in enumerate(TARGETS, start=1):
        start = time.monotonic()
        if args.minutes and start - began + longest > 60 * args.minutes:
            print(f"no time for {len(TARGETS) - number + 1} of {len(TARGETS)} sizes")
            break
        row = at_full_speed(
            peak,
            lambda: row_of(n_threads, *size, args.steps),
            tries=1 if args.minutes else 3,
        )
        times = {name: round(ms, 2) for name, ms in row["ms"].items()}
        print(f"{number} of {len(TARGETS)}: layers, batch, K = {size}, ms: {times}")
        result["steps"].append(row)
        longest = max(longest, time.monotonic() - start)
    if args.minutes:
        print(f"\n{steps_table(result)}" if result["steps"] else "nothing was timed")
        return
    RESULTS.mkdir(exist_ok=True)
    if args.steps != STEPS or args.threads:
        name = f"training_{args.steps}_steps_{n_threads}_threads"
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / f"{name}.md").write_text(steps_table(result) + "\n")
        print(f"\n{steps_table(result)}\n\nwritten: {RESULTS / name}.md")
        return
    result["evaluation"] = race_evaluation(images)
    names = ["minivae", "sparse", *list(result["evaluation"]["seconds"])[1:]]
    memory = {f"{name}, a step, B = 100, K = 50": memory_mb(name, 50) for name in names}
    for k in (500, 5000):
        memory[f"minivae, evaluation of 50 images, k = {k}"] = memory_mb("evaluate", k)
    result |= {"memory_mb": memory, "linearity": linearity(images)}
    result["start_up"] = start_up()
    result["two_runs"] = [two_runs(B, K) for B, K in ((100, 1), (100, 5), (100, 50))]
    (RESULTS / "training.json").write_text(json.dumps(result, indent=2) + "\n")
    readme, everything = tables(result)
    (RESULTS / "training.md").write_text(everything + "\n")
    write_into_readme(readme)
    print(f"\n{everything}\n\nwritten: {RESULTS / 'training.md'}")


if __name__ == "__main__":
    main()
