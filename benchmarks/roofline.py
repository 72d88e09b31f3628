"""Where a training step's time goes, operation by operation, and how near to the peak.

Batch 100, K = 50, dense backward. Each operation is timed alone, on one thread, on one
chunk, with its arguments warm in the cache, and its time multiplied by how often a step
needs it. A product is compared with sgemm's rate on a large square; the rest with the
rate at which a thread copies an array of 2 MB. Run it with nothing else running:

    python benchmarks/roofline.py

Writes results/roofline.md.
"""

import numpy as np
from kernels import H, K, cases
from machine import RESULTS, copy_rate, median_ms, processor, sgemm_rate, versions
from threadpoolctl import threadpool_limits
from training import minivae_step, trained

import minivae as mv
from minivae.engine.batching import chunks
from minivae.engine.threads import count

B, D, L = 100, 784, 50


def products(images, calls):
    """(label, calls a step, function, arguments, flops, None) of a chunk's products."""
    rng, rows = np.random.default_rng(0), images * K
    z, h, dh, dlogits = (
        rng.standard_normal((rows, n), np.float32) for n in (L, H, H, D)
    )
    W1, W2, W3 = (
        rng.standard_normal(shape, np.float32) for shape in ((L, H), (H, H), (H, D))
    )
    pairs = {
        "z W1": (z, W1),
        "h W2": (h, W2),
        "h W3, the logits": (h, W3),
        "dlogits W3^T": (dlogits, W3.T),
        "h^T dlogits": (h.T, dlogits),
        "da W2^T": (dh, W2.T),
        "h^T da": (h.T, dh),
        "da W1^T": (dh, W1.T),
        "z^T da": (z.T, dh),
    }
    for label, (a, b) in pairs.items():
        flops = 2 * a.shape[0] * a.shape[1] * b.shape[1]
        yield label, calls, np.matmul, (a, b), flops, None


def others(images, calls):
    """The same of all else: the kernels, and what NumPy does between them."""
    rng, rows = np.random.default_rng(0), images * K
    h, dlogits = (rng.standard_normal((rows, n), np.float32) for n in (H, D))
    coef = rng.random((rows, 1), np.float32)
    grad, dW = np.zeros((2, H, D), np.float32)
    for case in cases(images):
        function = getattr(case.file.VERSIONS["numba"], case.function)
        times = 1 if case.label == "adam" else calls
        times *= 2 if "tanh" in case.label else 1  # two hidden layers
        yield case.label, times, function, case.arguments, None, case.n_bytes
    yield "coef h", 2 * calls, np.multiply, (coef, h), None, 2 * h.nbytes
    yield "coef dlogits", calls, np.matmul, (coef.T, dlogits), None, dlogits.nbytes
    yield "add to a gradient", calls, np.add, (grad, dW, grad), None, 3 * grad.nbytes


def main():
    n, images = count(), mv.load("mnist").train_images
    model = trained(images, B, K)
    n_chunks = n * len(chunks(slice(0, B // n), K))
    operations = [*products(B // n_chunks, n_chunks), *others(B // n_chunks, n_chunks)]
    with threadpool_limits(1):
        flop_rate, byte_rate = sgemm_rate(1) * 1e6, copy_rate(2) * 1e6  # a millisecond
        timed = [median_ms(f, *arguments) for _, _, f, arguments, _, _ in operations]
    step = minivae_step(model, images, K, "all")
    whole = median_ms(step, np.arange(B), repeats=30)
    lines = [
        f"Batch {B}, K = {K}, dense backward: {whole:.1f} ms a step on {n} threads.",
        "Each operation alone, on one thread, on one chunk:",
        "",
        "| operation | ms | calls | GFLOP/s | GB/s | of the peak | of the step |",
        "|---|---|---|---|---|---|---|",
    ]
    sums = {True: 0.0, False: 0.0}
    for (label, calls, _, _, flops, n_bytes), ms in zip(operations, timed):
        in_step = ms * calls / n
        sums[flops is not None] += in_step
        if flops:
            rate, peak = f"{flops / ms / 1e6:.0f} | ", flops / ms / flop_rate
        else:
            rate, peak = f" | {n_bytes / ms / 1e6:.1f}", n_bytes / ms / byte_rate
        cells = f"{label} | {ms:.3f} | {calls} | {rate} | {peak:.0%}"
        lines.append(f"| {cells} | {in_step / whole:.1%} |")
    left = whole - sum(sums.values())
    lines += [
        "",
        f"Products {sums[True]:.1f} ms, the rest of the table {sums[False]:.1f} ms."
        f" What is left, {left:.1f} ms, is the encoder (once an image), the sum of the"
        " threads' gradients, Python, and what a cache forgets between two operations.",
        "",
        f"{processor()}, {versions('numpy', 'numba')}; peaks of one thread: sgemm"
        f" {flop_rate / 1e6:.0f} GFLOP/s, copy {byte_rate / 1e6:.1f} GB/s",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "roofline.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
