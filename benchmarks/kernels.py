"""Time every kernel in every version, after checking its result against the reference.

Sizes are those of one chunk of the one-layer MNIST model: 250 rows of 784 pixels, 200
hidden and 50 latent units, K = 50. Each figure is the median of `REPEATS` calls after
`WARM` more. Writes benchmarks/results/kernels.md. Run it with nothing else running:

    python benchmarks/kernels.py
"""

import platform
import time
from pathlib import Path

import numba
import numpy as np

from minivae.kernels import (
    NAMES,
    adam,
    bernoulli,
    log_weight,
    reparameterize,
    softmax,
    tanh,
)

WARM, REPEATS = 5, 100
B, K, D, H, L = 5, 50, 784, 200, 50
RESULT = Path(__file__).parent / "results" / "kernels.md"


def cases(dtype):
    """(label, kernel file, function's name, arguments) of every kernel."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    x = (rng.random((B, D)) < 0.2).astype(dtype)
    a, b, eps, heads = normal(B, K, D), normal(D), normal(B, K, L), normal(2, B, L)
    log_w, path = normal(B, K).astype(np.float64), normal(B, K)
    hidden, dz = normal(B * K, H), normal(B, K, L)
    state = [normal(H, D), normal(H, D), normal(H, D), normal(H, D) ** 2]
    settings = (1, 1e-3, 0.9, 0.999, 1e-8)
    return [
        ("bernoulli", bernoulli, "forward", (a, b, x)),
        ("bernoulli backward", bernoulli, "backward", (a, b, x)),
        ("tanh", tanh, "forward", (hidden,)),
        ("tanh backward", tanh, "backward", (hidden, np.tanh(hidden))),
        ("reparameterize", reparameterize, "forward", (*heads, eps)),
        (
            "reparameterize backward",
            reparameterize,
            "backward",
            (dz, eps, heads[1], path, -path),
        ),
        ("log_weight", log_weight, "forward", (log_w, dz, eps, heads[1])),
        ("softmax", softmax, "forward", (log_w,)),
        ("adam", adam, "step", (*state, *settings)),
    ]


def milliseconds(function, arguments):
    """The median time of a call."""
    times = []
    for _ in range(WARM + REPEATS):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[WARM:]))


def check(function, reference, arguments):
    """Refuse to time a wrong result."""

    def run(f, dtype):
        copies = [
            np.array(a, a.dtype if a.dtype == np.float64 else dtype)
            if isinstance(a, np.ndarray)
            else a
            for a in arguments
        ]
        result = f(*copies)
        if result is None:  # adam works in place
            result = tuple(c for c in copies if isinstance(c, np.ndarray))
        return result if isinstance(result, tuple) else (result,)

    for got, want in zip(run(function, np.float32), run(reference, np.float64)):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)


def main():
    lines = [
        f"float32, one chunk: B = {B}, K = {K}, D = {D}, H = {H}, L = {L}; median of"
        f" {REPEATS} calls, ms",
        "",
        f"{platform.processor() or platform.machine()},"
        f" {numba.get_num_threads()} threads, Python {platform.python_version()},"
        f" NumPy {np.__version__}, Numba {numba.__version__}",
        "",
        f"| kernel | {' | '.join(NAMES)} | numpy / numba |",
        "|---" * (len(NAMES) + 2) + "|",
    ]
    for label, kernel, function, arguments in cases(np.float32):
        functions = {name: getattr(kernel.VERSIONS[name], function) for name in NAMES}
        times = {}
        for name, version in functions.items():
            check(version, functions["numpy"], arguments)
            times[name] = milliseconds(version, arguments)
        figures = " | ".join(f"{t:.3f}" for t in times.values())
        ratio = times["numpy"] / times["numba"]
        lines.append(f"| {label} | {figures} | {ratio:.1f} |")
        print(lines[-1], flush=True)
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\nwritten: {RESULT}")


if __name__ == "__main__":
    main()
