"""How every picture of the chapters looks, and how it is written."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent.parent.parent / "benchmarks/results"
# told apart by the colour-blind (Okabe & Ito 2008, the purple Tol's); grey is given
BLUE, RED, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "0.45"
SETTINGS = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2,
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "path",  # the same letters everywhere
    "svg.hashsalt": "minivae",  # and the same file at each run
}


FIGURES = {}  # name -> function of a folder, which writes name.svg


def picture(columns=1, height=3.2):
    """Decorator: what draws on the axes, or on ``columns`` of them, is a picture.

    It has the function's name, is 6.5 inches wide, and white behind, since a page may
    be dark.
    """

    def entered(draw):
        def write(folder):
            with matplotlib.rc_context(SETTINGS):
                size = (6.5, height)
                figure = Figure(figsize=size, layout="constrained", facecolor="white")
                draw(figure.subplots(1, columns))
                path = Path(folder) / f"{draw.__name__}.svg"
                figure.savefig(path, metadata={"Date": None})

        FIGURES[draw.__name__] = write
        return draw

    return entered


def label(axes, x, y, text, color, **how):
    """Text beside what it is about, in its colour."""
    axes.text(x, y, text, color=color, **how)


def point(axes, text, end, start, color):
    """Small text at ``start``, and a line from it to ``end``."""
    line = {"arrowstyle": "-", "color": color, "linewidth": 0.8}
    axes.annotate(
        text, end, start, color=color, fontsize=10, va="center", arrowprops=line
    )


def label_ends(axes, curves, gap):
    """Names right of the ends of ``curves``, name -> (x, y, colour), on a logarithmic y
    axis: at least a factor ``gap`` apart, and as near to their curves as that allows.
    """
    names = sorted(curves, key=lambda name: curves[name][1])
    y = np.log([curves[name][1] for name in names])
    place = y.copy()
    for _ in range(200):  # push neighbours apart
        for i in range(len(place) - 1):
            short = (np.log(gap) - (place[i + 1] - place[i])) / 2
            if short > 0:
                place[i] -= short
                place[i + 1] += short
    for name, at in zip(names, np.exp(place)):
        x, end, color = curves[name]
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.7}
        axes.annotate(
            name, (x, end), (1.06, at), color=color, va="center", fontsize=10,
            textcoords=axes.get_yaxis_transform(), arrowprops=line,
        )  # fmt: skip
