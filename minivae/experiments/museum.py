"""The museum of bugs (chapter 27): what each does to a training curve, and which check
sees it.
"""

from functools import partial
from pathlib import Path

import numpy as np

from ..data import binarize, load
from ..engine.files import write_json, write_text
from ..engine.registry import BOUNDS
from ..engine.report import say
from ..model import VAE
from ..plots import small_multiples
from .checks import CHECKS, PROGRAMS, program, which_checks_see
from .common import halved, read_rows
from .exhibits import EXHIBITS

# of MNIST at 14 x 14: a step takes a quarter of the time, and learns as surely
IMAGES, EPOCHS, BATCH, K, RATE, HIDDEN, LATENT = 2000, 10, 50, 6, 3e-3, 50, 20
TEST_IMAGES, TEST_K = 200, 50
SEEDS = (1, 2)  # of the right IWAE once more: how much is chance
COLUMNS = {"program": str, "reported": list, "bound": list}


def learning_curve(program, data, seed=0):
    """Train, on a few images for a few epochs.

    Returns
    -------
    reported, bound : list of float
        After each epoch, in nats: what the program says of its training images, and the
        IWAE bound of test images by the right code.
    """
    rng, images = np.random.default_rng(seed), halved(data.train_images[:IMAGES])
    sizes = (LATENT,) * program.layers, ((HIDDEN, HIDDEN),) * program.layers
    model = VAE(images.shape[1], *sizes, rng=rng, x_mean=images.mean(axis=0))
    test_x = binarize(halved(data.test_images[:TEST_IMAGES]), np.random.default_rng(1))
    test_eps = model.draw_eps(len(test_x), TEST_K, np.random.default_rng(1))
    reported, bound = [], []

    def step(params, x, eps, _):
        deeper = model.draw_eps(*eps.shape[:2], rng)[1:]
        value, _, grads = program.run(model, x, [eps, *deeper])
        return value.mean(), grads

    def after_epoch():
        log_w = model.log_weights(test_x, test_eps)
        bound.append(float(BOUNDS["iwae"](log_w)[0].mean()))

    page = program.page
    page.bound_and_grad, page.told, page.after_epoch = step, reported, after_epoch
    page.adam = partial(page.adam, rate=RATE)
    page.train(model.params, images, rng, None, K, EPOCHS, BATCH)
    return [float(value) for value in reported], bound


def reproduce_museum(folder, progress=True):
    """What each bug of the museum does, and which check sees it (chapter 27).

    Writes museum.json, table.md and museum.png into ``folder``.

    Returns
    -------
    table : str
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, data = folder / "museum.json", load("mnist")
    rows = read_rows(path, COLUMNS)
    done = {row["program"] for row in rows}
    todo = [(name, 0, name, None) for name in PROGRAMS]
    todo += [(name, 0, exhibit.program, exhibit) for name, exhibit in EXHIBITS.items()]
    todo += [(f"iwae, seed {seed}", seed, "iwae", None) for seed in SEEDS]
    for name, seed, kind, exhibit in todo:
        if name not in done:
            say(name)
            reported, bound = learning_curve(program(kind, exhibit), data, seed)
            rows.append({"program": name, "reported": reported, "bound": bound})
            write_json(path, {"rows": rows})
    sees = which_checks_see()
    write_json(path, {"sees": sees, "rows": rows})
    curves = {row["program"]: row for row in rows}
    table = museum_table(sees, curves)
    write_text(folder / "table.md", table)
    draw(curves, folder / "museum.png")
    return table


def museum_table(sees, curves):
    """Which check sees which bug, and where each training ends, as Markdown."""
    lines = [f"| bug | {' | '.join(CHECKS)} |", "|---" * (len(CHECKS) + 1) + "|"]
    for name, row in sees.items():
        marks = " | ".join("seen" if seen else "-" for seen in row.values())
        lines.append(f"| {name} | {marks} |")
    lines += [
        "",
        f"After {EPOCHS} epochs on {IMAGES:,} images of MNIST at 14 x 14, K = {K},"
        f" batch {BATCH}, {HIDDEN}-{HIDDEN}-{LATENT}, Adam {RATE:g}. Bound: of"
        f" {TEST_IMAGES} test images, IWAE with K = {TEST_K}, by the right code. Nats:",
        "",
        "| bug | it reports | the right program reports | its bound | the right"
        " program's bound | its report ever falls |",
        "|---|---|---|---|---|---|",
    ]
    for name, exhibit in EXHIBITS.items():
        bug, right = curves[name], curves[exhibit.program]
        ends = [c[of][-1] for of in ("reported", "bound") for c in (bug, right)]
        falls = (np.diff(bug["reported"]) < 0).any()
        lines.append(
            f"| {name} | {' | '.join(f'{e:.1f}' for e in ends)} |"
            f" {'yes' if falls else 'no'} |"
        )
    names = ["iwae", *(f"iwae, seed {seed}" for seed in SEEDS)]
    reported, bound = (
        ", ".join(f"{curves[name][of][-1]:.1f}" for name in names)
        for of in ("reported", "bound")
    )
    seeds = f"The right IWAE by three seeds: it reports {reported}; its bound {bound}."
    return "\n".join([*lines, "", seeds])


def draw(curves, path):
    """Each bug's curves over the right program's."""
    panels = {}
    for name, exhibit in EXHIBITS.items():
        bug, right = curves[name], curves[exhibit.program]
        panels[name] = [
            ("right: its bound", right["bound"], {"color": "0.7", "linewidth": 4}),
            ("bug: its bound", bug["bound"], {"color": "C3"}),
            ("bug: what it reports", bug["reported"], {"color": "C3", "ls": "--"}),
        ]
    small_multiples(panels, path, xlabel="epoch", ylabel="nats")
