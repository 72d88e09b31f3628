"""Where a training step's time goes, operation by operation, and how near to the peak.

Batch 100, K = 50, backward pass of all samples that are above rounding, of a model
trained for 500 steps. Each operation is timed alone, on one thread, on one chunk, with
its arguments warm in the cache. A product is compared with sgemm's rate on a large
square; the rest with the rate at which a thread copies an array of 2 MB. A second table
has what the same functions take within a step, where both threads share the memory and
each array has to be fetched again. Run it with nothing else running:

    python benchmarks/roofline.py

Writes results/roofline.md, and fails if more than 15 % of the step is not explained.
"""

import sys
import time
from collections import defaultdict

import numpy as np
from kernels import H, K, cases
from machine import RESULTS, copy_rate, median_ms, processor, sgemm_rate, versions
from threadpoolctl import threadpool_limits
from training import kept_rows, minivae_step, trained

import minivae as mv
from minivae.engine.batching import chunks
from minivae.engine.threads import count
from minivae.kernels import Ops

B, D, L = 100, 784, 50
MOST_LEFT = 0.15


def products(images, kept):
    """(label, function, arguments, flops, None) of the products of a chunk's images, of
    whose rows ``kept`` go through the decoder's backward pass.
    """
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    W1, W2, W3, V1, V2 = (
        normal(*shape) for shape in ((L, H), (H, H), (H, D), (D, H), (H, L))
    )
    z, h = normal(images * K, L), normal(images * K, H)
    z_k, h_k, dh, dlogits = (normal(kept, n) for n in (L, H, H, D))
    x, g, dg, dmu = (normal(images, n) for n in (D, H, H, L))
    pairs = {
        "z W1": (z, W1),
        "h W2": (h, W2),
        "h W3, the logits": (h, W3),
        "dlogits W3^T": (dlogits, W3.T),
        "h^T dlogits": (h_k.T, dlogits),
        "da W2^T": (dh, W2.T),
        "h^T da": (h_k.T, dh),
        "da W1^T": (dh, W1.T),
        "z^T da": (z_k.T, dh),
        "encoder, x V1": (x, V1),
        "encoder, g V2": (g, W2),
        "encoder, mu": (g, V2),
        "encoder, log sigma": (g, V2),
        "encoder, dmu V3^T": (dmu, V2.T),
        "encoder, dlog sigma V4^T": (dmu, V2.T),
        "encoder, g^T dmu": (g.T, dmu),
        "encoder, g^T dlog sigma": (g.T, dmu),
        "encoder, da V2^T": (dg, W2.T),
        "encoder, g^T da": (g.T, dg),
        "encoder, x^T da": (x.T, dg),
    }
    for label, (a, b) in pairs.items():
        flops = 2 * a.shape[0] * a.shape[1] * b.shape[1]
        yield label, 1, np.matmul, (a, b), flops, None


def others(images, kept):
    """The same of all else: the kernels, and what NumPy does between them."""
    rng = np.random.default_rng(0)
    h, logits = (rng.standard_normal((images * K, n), np.float32) for n in (H, D))
    rows = np.sort(rng.choice(images * K, kept, replace=False))
    h_k, dlogits, coef = h[rows], logits[rows], rng.random((kept, 1), np.float32)
    backward = {case.label: case for case in cases(max(1, round(kept / K)))}
    for case in cases(images):
        if case.label == "adam":
            continue
        times = 2 if "tanh" in case.label else 1  # two hidden layers
        if case.label in ("bernoulli backward", "tanh backward"):
            case = backward[case.label]
        function = getattr(case.file.VERSIONS["numba"], case.function)
        yield case.label, times, function, case.arguments, None, case.n_bytes
    for label, array in (("kept rows of h", h), ("kept rows of the logits", logits)):
        times, n_bytes = (2 if array is h else 1), 2 * array[rows].nbytes
        yield label, times, lambda a=array: a[rows], (), None, n_bytes
    yield "coef h", 2, np.multiply, (coef, h_k), None, 2 * h_k.nbytes
    yield "coef dlogits", 1, np.matmul, (coef.T, dlogits), None, dlogits.nbytes


def within_steps(model, images, n, steps=30):
    """Milliseconds of a thread in each kernel, by its name, and of the whole step."""
    seconds = defaultdict(list)  # to append is safe for threads

    def timed(name, function):
        def call(*arguments, **how):
            start = time.perf_counter()
            result = function(*arguments, **how)
            seconds[name].append(time.perf_counter() - start)
            return result

        return call

    ops = model.ops
    functions = {name: f for name, f in vars(ops).items() if callable(f)}
    model.ops = Ops(name=ops.name, **{n: timed(n, f) for n, f in functions.items()})
    # so small a rate that the model stays the one whose kept rows were counted
    step = minivae_step(model, images, K, "all", learning_rate=1e-30)
    step(np.arange(B))
    seconds.clear()
    whole = median_ms(step, np.arange(B), repeats=steps)
    model.ops = ops
    calls = steps * n
    return {name: 1e3 * sum(s) / calls for name, s in seconds.items()}, whole


def once(n):
    """What one thread does for the others: the gradients' sum, and Adam."""
    adam = next(case for case in cases(1) if case.label == "adam")
    p, g, *_ = adam.arguments
    yield "sum of the gradients", n - 1, np.add, (p, g, p), None, 3 * p.nbytes
    function = adam.file.VERSIONS["numba"].adam
    yield "adam", 1, function, adam.arguments, None, adam.n_bytes


def main():
    n, images = count(), mv.load("mnist").train_images
    model = trained(images)
    n_chunks = n * len(chunks(slice(0, B // n), K))
    in_chunk = B // n_chunks
    kept = round(kept_rows(model, images, B, K) * in_chunk * K)
    # calls in a step by one thread, which do not run beside those of another
    table = [
        (label, calls * n_chunks // n, *rest)
        for operations in (products(in_chunk, kept), others(in_chunk, kept))
        for label, calls, *rest in operations
    ] + [*once(n)]
    with threadpool_limits(1):
        flop_rate, byte_rate = sgemm_rate(1) * 1e6, copy_rate(2) * 1e6  # a millisecond
        timed = [median_ms(f, *arguments) for _, _, f, arguments, _, _ in table]
    spent, whole = within_steps(model, images, n)
    lines = [
        f"Batch {B}, K = {K}, {kept} of {in_chunk * K} rows above rounding:"
        f" {whole:.1f} ms a step on {n} threads.",
        "Each operation alone, on one thread, on one chunk, and the calls of a thread:",
        "",
        "| operation | ms | calls | GFLOP/s | GB/s | of the peak | of the step |",
        "|---|---|---|---|---|---|---|",
    ]
    alone = defaultdict(float)
    for (label, calls, _, _, flops, n_bytes), ms in zip(table, timed):
        alone["matmul" if flops else label.replace(" ", "_")] += ms * calls
        if flops:
            rate, peak = f"{flops / ms / 1e6:.0f} | ", flops / ms / flop_rate
        else:
            rate, peak = f" | {n_bytes / ms / 1e6:.1f}", n_bytes / ms / byte_rate
        cells = f"{label} | {ms:.3f} | {calls} | {rate} | {peak:.0%}"
        lines.append(f"| {cells} | {ms * calls / whole:.1%} |")
    lines += [
        "",
        "What a thread spends in a step, and what the same operations take alone:",
        "",
        "| in a step | ms | of the step | alone, ms |",
        "|---|---|---|---|",
    ]
    # what is no kernel is not timed within the step
    spent |= {name: ms for name, ms in alone.items() if name not in spent}
    for name, ms in sorted(spent.items(), key=lambda item: -item[1]):
        by_itself = f"{alone[name]:.2f}" if name in alone else ""
        label = "products" if name == "matmul" else name.replace("_", " ")
        lines.append(f"| {label} | {ms:.2f} | {ms / whole:.1%} | {by_itself} |")
    left = whole - sum(spent.values())
    lines += [
        "",
        f"What is left, {left:.1f} ms or {left / whole:.0%}, is Python, small arrays,"
        " and waiting: of one thread for the other, and of both for Python's lock.",
        "",
        f"{processor()}, {versions('numpy', 'numba')}; peaks of one thread: sgemm"
        f" {flop_rate / 1e6:.0f} GFLOP/s, copy {byte_rate / 1e6:.1f} GB/s",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "roofline.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    if left > MOST_LEFT * whole:
        sys.exit(f"{left / whole:.0%} of the step is unexplained, and at most"
                 f" {MOST_LEFT:.0%} may be")  # fmt: skip


if __name__ == "__main__":
    main()
