"""What a training step should take on a named GPU, from the card's datasheet: nothing
here is measured.

    python benchmarks/kernels.py --predict h100

The step is the dense one of the paper's one-layer model in float32. A launch needs at
least the time for its bytes at the memory's rate, or for its operations at the
arithmetic's, whichever is more: the floor. Each array counts once for each launch that
reads or writes it, as if no cache held it; an exponential counts as 20 operations. The
prediction adds that no launch of a replayed graph takes less than `LAUNCH`, and no
product less than `PRODUCT`: two guesses, until they are measured.

tests/test_device.py counts the launches of a step, with the stand-in for a GPU, and
holds this list to their number.
"""

from itertools import groupby, pairwise
from typing import NamedTuple

# bytes and float32 operations a second: NVIDIA's datasheet of the H100 SXM
CARDS = {"h100": ("NVIDIA H100 SXM", 3.35e12, 67e12)}
LAUNCH, PRODUCT = 1.5e-6, 5e-6  # seconds
SIZES, STEPS, EPOCHS = ((100, 50), (1000, 50)), 600, 3280
D, H, L, PARAMETERS = 784, 200, 50, 425_284


class Launch(NamedTuple):
    """One launch: its label in the table, the bytes and operations, the least time."""

    label: str
    n_bytes: float
    flops: float
    least: float = LAUNCH


def products(label, sizes):
    """Products of (M, N) by (N, O), each a launch."""
    return [
        Launch(label, 4 * (m * n + n * o + m * o), 2 * m * n * o, PRODUCT)
        for m, n, o in sizes
    ]


def kernels(label, numbers, n_bytes, flops):
    """Launches over so many ``numbers`` each, with bytes and operations for each."""
    return [Launch(label, n_bytes * n, flops * n) for n in numbers]


def step(B, K):
    """The launches of a step, by label."""
    R = B * K
    encoder = [(B, D, H), (B, H, H), (B, H, L), (B, H, L)]
    decoder = [(R, n, o) for n, o in pairwise((L, H, H, D))]
    hidden = [B * H, B * H, R * H, R * H]
    return [
        *products("product, forward", encoder + decoder),
        *products("product, down", [(m, o, n) for m, n, o in decoder + encoder[1:]]),
        *products("product, weights", [(n, m, o) for m, n, o in decoder + encoder]),
        *products("product, biases", [(1, m, o) for m, _, o in decoder + encoder]),
        *kernels("images", [B * D], 8, 0),
        *kernels("binarize", [B * D], 8, 40),
        *kernels("normal", [R * L], 4, 60),
        *kernels("tanh", hidden, 8, 25),
        *kernels("tanh backward", hidden, 12, 3),
        *kernels("reparameterize", [R * L], 8, 22),
        *kernels("bernoulli", [R * D], 4, 30),
        *kernels("log_weight", [R * L], 8, 5),
        *kernels("softmax", [R], 16, 45),
        *kernels("coefficients", [R], 41, 12),
        *kernels("bernoulli backward", [R * D], 8, 30),
        *kernels("coef times a factor", [R * H, R * H, R * L], 8, 1),
        *kernels("dz", 2 * [R * L], 12, 1),
        *kernels("reparameterize backward", [R * L], 8, 30),
        *kernels("adam", [1, PARAMETERS], 28, 15),
        # the bound's last steps, signs and scales, the heads' biases, ones for sums
        *kernels("of (B, K), (B, L) or less", 24 * [R], 24, 1),
    ]


def write_prediction(card, folder):
    """The table as Markdown, which goes into a file of ``folder``, too."""
    name, rate, most = CARDS[card]

    def floor(launches):
        return sum(max(x.n_bytes / rate, x.flops / most) for x in launches)

    def predicted(launches):
        return sum(max(x.n_bytes / rate, x.flops / most, x.least) for x in launches)

    def line(label, launches):
        n_bytes, flops = (sum(column) for column in [*zip(*launches)][1:3])
        return (
            f"| {label} | {len(launches)} | {n_bytes / 1e6:.1f} | {flops / 1e9:.3f} |"
            f" {1e6 * floor(launches):.1f} | {1e6 * predicted(launches):.1f} |"
        )

    lines = [
        f"# A training step on an {name}: predicted, not measured",
        "",
        f"Written by `benchmarks/kernels.py --predict {card}`: {rate / 1e12:.2f} TB/s,"
        f" {most / 1e12:.0f} TFLOP/s in float32; for the prediction {1e6 * LAUNCH:.1f}"
        f" us for a launch at least, and {1e6 * PRODUCT:.0f} us for a product, one"
        " after the other, though the products of weights and biases have a stream of"
        " their own.",
    ]
    for B, K in SIZES:
        launches = step(B, K)
        lines += ["", f"Batch {B}, K = {K}:", ""]
        lines += ["| launches | number | MB | GFLOP | floor, us | predicted, us |"]
        lines += ["|---" * 6 + "|"]
        for label, group in groupby(launches, key=lambda launch: launch.label):
            lines.append(line(label, [*group]))
        lines.append(line("**all**", launches))
        minutes = predicted(launches) * STEPS * EPOCHS / 60
        if B == 100:
            lines += ["", f"{EPOCHS:,} epochs of {STEPS} steps: {minutes:.1f} minutes."]
    text = "\n".join(lines) + "\n"
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"predicted_{card}.md").write_text(text, encoding="utf-8")
    return text
