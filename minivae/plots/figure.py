"""A figure, and how it becomes a file. Matplotlib is loaded when the first is drawn."""

from pathlib import Path

from ..engine.files import write_atomically


def new_figure(width=6.0, height=4.0, layout="constrained"):
    """A figure of its own, outside pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout=layout)


def finished(figure, path):
    """``figure``, which is also written to the PNG ``path``, if that is not None; its
    folder is made when missing.
    """
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: figure.savefig(file, format="png"))
    return figure


def legend_above(figure):
    """One legend for all axes, above them, where it covers nothing."""
    named = {}  # a label that several axes have stands there once
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= {label: handle for handle, label in zip(handles, labels)}
    columns = 1 if max(map(len, named), default=0) > 30 else 2
    where = {"loc": "outside upper center", "ncols": columns, "fontsize": "small"}
    figure.legend(named.values(), named.keys(), **where)
