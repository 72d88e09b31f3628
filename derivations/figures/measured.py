"""The pictures of what was measured, from the raw numbers that are committed."""

import json

import numpy as np
from style import BLUE, GREEN, GREY, PURPLE, RED, RESULTS, label, label_ends, picture

from minivae.experiments.snr import snr_curves


def read(name):
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


@picture()
def active_units(axes):
    """Eq. 12.3: unit by unit, of an IWAE after 20 epochs."""
    result = read("iwae_k5_20_epochs/evaluation_10000_images_k_5000.json")
    variances = np.sort(result["unit_variances"][0])[::-1]
    unit = np.arange(1, len(variances) + 1)
    used = variances > 0.05
    axes.plot(unit[used], variances[used], "o", color=BLUE, markersize=5)
    axes.plot(unit[~used], variances[~used], "o", color=GREY, markersize=5)
    for threshold in (0.005, 0.01, 0.02, 0.05):
        count = int((variances > threshold).sum())
        axes.axhline(threshold, color=RED, linewidth=0.9)
        text = f"above {threshold:g}: {count}"
        label(axes, 1, threshold * 1.07, text, RED, fontsize=10)
    label(axes, 12, 0.3, f"{used.sum()} in use", BLUE)
    label(axes, 27, 0.08, f"{(~used).sum()} that may yet fall", GREY)
    axes.set(xlabel="latent unit, sorted", ylabel="variance of the mean code")
    axes.set(yscale="log", ylim=(0.003, 2), xlim=(0, 51))


@picture(columns=2, height=4)
def signal_to_noise(panels):
    """Eq. 22.1, of the encoder's gradient."""
    curves = snr_curves(read("snr/snr.json")["rows"])
    colors = dict.fromkeys(("reparam", "vimco"), RED) | {"score": PURPLE}
    colors |= {"dreg": BLUE, "piwae": GREY}
    for axes, (model, title) in zip(panels, {"toy": "toy", "mnist": "MNIST"}.items()):
        ends = {}
        for name, curve in curves[model, "phi"].items():
            K, ratio = np.array([point for point in curve if point[1] > 0]).T
            color = colors.get(name, GREEN)
            axes.plot(K, ratio, color=color, linewidth=1.6)
            ends[name] = K[-1], ratio[-1], color
        axes.set(title=title, xlabel="$K$", xscale="log", yscale="log")
        axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        axes.minorticks_off()
        low, high = axes.get_ylim()
        label_ends(axes, ends, (high / low) ** (1 / 17))
    panels[0].set_ylabel("signal / noise, encoder")


@picture(height=4)
def memory_traffic(axes):
    """Bytes that each kernel must move, a second: numba, one thread."""
    rows = [row for row in read("kernels.json") if row["version"] == "numba"]
    largest = {row["kernel"]: row for row in rows}  # the last has the most images
    rows = sorted(largest.values(), key=lambda row: row["gb_per_s"])
    copy = rows[0]["gb_per_s"] / rows[0]["of_copy"]
    for y, row in enumerate(rows):
        rate = row["gb_per_s"]
        color = BLUE if rate < copy / 2 else GREEN
        axes.barh(y, rate, color=color, height=0.7)
        label(axes, rate + 1, y, f"{rate:.1f}", color, va="center", fontsize=10)
    axes.set_yticks(range(len(rows)), [row["kernel"] for row in rows])
    axes.axvline(copy, color="black", linewidth=1.3)
    label(axes, copy + 1, 0, f"a copy: {copy:.0f} GB/s", "black", va="center")
    label(axes, 30, 4.4, "far below:\narithmetic\nis the limit", BLUE, va="center")
    label(axes, copy + 1, 8.6, "memory is the limit", GREEN, va="center")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="GB/s", xlim=(0, 95))
