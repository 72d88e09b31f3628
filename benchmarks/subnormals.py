"""What subnormal numbers cost this processor: a product, a kernel and a moment of Adam,
with a part of their float32 numbers subnormal and with zeros in their place.

    python benchmarks/subnormals.py

Writes results/subnormals.md. Run it with nothing else running.
"""

import numpy as np
from machine import RESULTS, median_ms, processor, versions
from threadpoolctl import threadpool_limits

from minivae.kernels import load_ops

ROWS, H, D, L = 2500, 200, 784, 50  # 50 images with 50 samples each
SUBNORMAL = 1e-40


def coefficients(part, tiny):
    """Weights of the rows, of which a part is ``tiny``."""
    rng = np.random.default_rng(0)
    coef = rng.random(ROWS, np.float32)
    coef[rng.random(ROWS) < part] = tiny
    return coef


def product(part, tiny):
    """The gradient of the decoder's last matrix, (H, ROWS) @ (ROWS, D)."""
    rng = np.random.default_rng(1)
    h, dlogits = (rng.standard_normal((ROWS, n), np.float32) for n in (H, D))
    h *= coefficients(part, tiny)[:, None]
    return median_ms(np.matmul, h.T, dlogits, repeats=20)


def draw(part, tiny):
    """The backward of the reparameterised draw, (ROWS, L)."""
    rng, backward = np.random.default_rng(1), load_ops("numba").reparameterize_backward
    dz, eps = (rng.standard_normal((50, 50, L), np.float32) for _ in range(2))
    path = coefficients(part, tiny).reshape(50, 50)
    log_sigma = np.zeros((50, L), np.float32)
    return median_ms(backward, dz, eps, log_sigma, path, np.zeros_like(path))


def adam(part, tiny):
    """A step of Adam as it was, without its flush: the m = 0.9 m of all parameters.

    NumPy's multiply, since our own kernel leaves no subnormal moment.
    """
    rng = np.random.default_rng(1)
    m, out = np.empty((2, 500_000), np.float32)
    m[:] = np.where(rng.random(m.size) < part, tiny, 1)
    return median_ms(np.multiply, m, np.float32(0.9), out)


def main():
    lines = [
        "Milliseconds on one thread, float32, with a part of the coefficients (of",
        "Adam, of the moments) zero, and with the same part subnormal:",
        "",
        "| | part | zero | subnormal | times as slow |",
        "|---|---|---|---|---|",
    ]
    with threadpool_limits(1):
        for label, measure in (
            ("product, h^T dlogits", product),
            ("reparameterize backward", draw),
            ("Adam's first moment", adam),
        ):
            for part in (0.03, 0.3):
                zero, subnormal = measure(part, 0.0), measure(part, SUBNORMAL)
                cells = f"{label} | {part:.0%} | {zero:.3f} | {subnormal:.3f}"
                lines.append(f"| {cells} | {subnormal / zero:.2f} |")
    lines += ["", f"{processor()}, {versions('numpy', 'numba')}"]
    (RESULTS / "subnormals.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
