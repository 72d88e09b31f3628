"""The paper's two experiments as grids of runs (Burda et al. 2016, tables 1 and 2).

A cell is trained by `minivae.train`, with settings that can be typed by hand
(`command_of`), into an ordinary run's folder OUT/PRESET/CELL/seedN.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache, partial
from pathlib import Path
from time import sleep

import numpy as np

from ..data import load
from ..engine.batching import even_slices
from ..engine.checks import check_seed
from ..engine.files import write_json
from ..evaluation import images_seen, measure, summary_of
from ..model import NLL_NAMES, VAE
from ..presets import ARCHITECTURES, PRESETS
from ..results import kept_evaluation
from ..runs import load_run
from ..training import train
from .notes import after_epoch, catch_up
from .pool import Job, run_jobs
from .progress import progress_of

WEIGHTS = 5000  # of an image, by which NLL is measured
AS_PUBLISHED = ("burda", "short")  # presets that keep the paper's estimator
PARTS = 8  # of the test images, each a job
SEEDS = {"binarize_seed": 0, "seed": 0}  # of an evaluation
WATCHED = 1000  # test images, by which the units are watched
LOCKED = 5.0  # seconds between two looks at a folder in which another writes


@dataclass(frozen=True)
class Cell:
    """A run of a grid; ``origin`` is the cell from whose trained model it starts."""

    data: str
    layers: int
    bound: str
    k: int
    origin: Cell | None = None

    @property
    def name(self):
        """As mnist-1-iwae-50, or mnist-1-vae-1-to-iwae-50."""
        objective = f"{'vae' if self.bound == 'elbo' else self.bound}-{self.k}"
        if self.origin:
            return f"{self.origin.name}-to-{objective}"
        return f"{self.data}-{self.layers}-{objective}"


# With k = 1 the IWAE is the VAE.
OBJECTIVES = (("elbo", 1), ("elbo", 5), ("elbo", 50), ("iwae", 5), ("iwae", 50))
VAE_1, IWAE_50 = Cell("mnist", 1, "elbo", 1), Cell("mnist", 1, "iwae", 50)
TABLES = {
    "table1": [
        Cell(data, layers, *objective)
        for data in ("mnist", "omniglot")
        for layers in (1, 2)
        for objective in OBJECTIVES
    ],
    # each switch of the objective before its control, the same restart without it
    "table2": [
        Cell("mnist", 1, to.bound, to.k, origin)
        for origin, other in ((VAE_1, IWAE_50), (IWAE_50, VAE_1))
        for to in (other, origin)
    ],
}
# NLL in nats, and active units by layer
PUBLISHED = {
    "mnist-1-vae-1": (86.76, [19]),
    "mnist-1-vae-5": (86.47, [20]),
    "mnist-1-vae-50": (86.35, [20]),
    "mnist-1-iwae-5": (85.54, [22]),
    "mnist-1-iwae-50": (84.78, [25]),
    "mnist-2-vae-1": (85.33, [16, 5]),
    "mnist-2-vae-5": (85.01, [17, 5]),
    "mnist-2-vae-50": (84.78, [17, 5]),
    "mnist-2-iwae-5": (83.89, [21, 5]),
    "mnist-2-iwae-50": (82.90, [26, 7]),
    "omniglot-1-vae-1": (108.11, [28]),
    "omniglot-1-vae-5": (107.62, [28]),
    "omniglot-1-vae-50": (107.80, [28]),
    "omniglot-1-iwae-5": (106.12, [34]),
    "omniglot-1-iwae-50": (104.67, [41]),
    "omniglot-2-vae-1": (107.58, [28, 4]),
    "omniglot-2-vae-5": (106.31, [30, 5]),
    "omniglot-2-vae-50": (106.30, [30, 5]),
    "omniglot-2-iwae-5": (104.79, [38, 6]),
    "omniglot-2-iwae-50": (103.38, [44, 7]),
    "mnist-1-vae-1-to-iwae-50": (84.88, [22]),
    "mnist-1-iwae-50-to-vae-1": (86.02, [23]),
}


def settings_of(cell, preset):
    """The arguments of `minivae.train` that a preset means for a cell.

    A second stage repeats the preset's last stage, or the whole of a preset that has
    none, at a tenth of its learning rate. The paper's went on for 3^7 epochs at 1e-4,
    too. Two layers have half of a preset's learning rate that is not the paper's: at
    all of it an IWAE of fifty samples gets worse (chapter 30).
    """
    settings = PRESETS[preset].copy()
    if cell.origin:
        if "stages" in settings:
            settings["epochs"], settings["learning_rate"] = settings.pop("stages")[-1]
        else:
            settings["learning_rate"] /= 10
    if preset not in AS_PUBLISHED:
        # of the ELBO, whose coefficients are equal, dreg is stl, and sparse is no gain
        sparse = cell.bound == "iwae" and cell.k >= 50
        settings |= {"estimator": "dreg", "backward": "sparse" if sparse else "all"}
        if cell.layers > 1:
            settings["learning_rate"] /= 2
    return settings


def epochs_of(settings):
    """How many epochs these arguments of `minivae.train` are."""
    if "stages" in settings:
        return sum(epochs for epochs, _ in settings["stages"])
    return settings["epochs"]


def folder_of(out, preset, cell, seed):
    """The run's folder."""
    return Path(out) / preset / cell.name / f"seed{seed}"


def command_of(cell, *, preset, seed, out, data_path):
    """The line of a shell that trains a cell."""
    settings, words = settings_of(cell, preset), ["minivae", "train"]
    if cell.origin:
        words += ["--init-from", folder_of(out, preset, cell.origin, seed)]
    else:
        words += ["--layers", cell.layers]
        if PRESETS[preset].items() <= settings.items():
            words += ["--preset", preset]
            settings = {k: v for k, v in settings.items() if k not in PRESETS[preset]}
    words += ["--data", place_of(cell.data, data_path)]
    words += ["--bound", cell.bound, "--k", cell.k]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", value]
    words += ["--seed", seed, "--out", folder_of(out, preset, cell, seed)]
    return shlex.join(map(str, words))


@lru_cache(1)
def images_of(name, path):
    """The image set, which a worker needs for one job after the other."""
    return load(place_of(name, path))


def place_of(name, path):
    """What `load` takes for an image set: OMNIGLOT's may be in a file at ``path``."""
    return path if name == "omniglot" and path else name


def train_cell(cell, preset, settings, seed, out, data_path, device):
    """Train a cell into its folder, or resume it there, or find that it is done."""
    folder, data = folder_of(out, preset, cell, seed), images_of(cell.data, data_path)
    if cell.origin:
        model = load_run(folder_of(out, preset, cell.origin, seed), device).model
    else:
        model = VAE(
            x_dim=data.train_images.shape[1],
            **ARCHITECTURES[cell.layers],
            rng=np.random.default_rng(seed),
            x_mean=data.train_images.mean(axis=0),
            device=device,
        )
    watched = data.test_images[:WATCHED]
    if all((folder / name).is_file() for name in ("checkpoint.npz", "config.json")):
        catch_up(watched, load_run(folder, device))
    while True:
        try:
            train(
                model,
                data.train_images,
                cell.bound,
                cell.k,
                **settings,
                seed=seed,
                folder=folder,
                data=data,
                test_images=data.test_images,
                callback=partial(after_epoch, watched),
                progress=False,
            )
            break
        except BlockingIOError:  # as by a worker that a cluster has given up too early
            sleep(LOCKED)


def evaluate_cell(cell, preset, seed, out, data_path, device, weights, part=None):
    """Evaluate a trained cell into its folder, unless that is done; or only measure one
    part of the test images, and leave it in a file.
    """
    folder = folder_of(out, preset, cell, seed)
    model = load_run(folder, device).model
    images = images_of(cell.data, data_path).test_images
    path = folder / f"evaluation_{len(images)}_images_k_{weights}.npz"
    images = images_seen(model, images, SEEDS["binarize_seed"])
    summary = path.with_suffix(".json")
    if summary.is_file() and kept_evaluation(path, images, model.params):
        return
    parts = even_slices(0, len(images), PARTS)
    files = [path.with_suffix(f".part{i}.npz") for i in range(PARTS)]

    def measured(i):
        how = {"seed": SEEDS["seed"], "partial": files[i], "progress": False}
        return measure(model, images, weights, parts[i], **how)

    if part is not None:
        measured(part)
        return
    found = [measured(i) for i in range(PARTS)]  # which are only read, if they are done
    total = {name: sum(arrays[name] for arrays in found) for name in found[0]}
    result = summary_of(model, images, weights, total)
    what = {"nll_is": NLL_NAMES[model.likelihood][0], "split": "test"}
    write_json(summary, result.summary() | SEEDS | what)
    result.save(path)
    for file in files:
        file.unlink(missing_ok=True)


def train_table(
    cells, out, preset, *, seeds, data_path, device, open_executor, threads
):
    """Train and evaluate ``cells``, as `select` returns them.

    Of each seed the longest cell begins first, or the last worker would be alone with
    it for hours.

    Parameters
    ----------
    cells : list of Cell
    preset : str
        Of `PRESETS`.
    out, data_path : path-like
        The folder of all runs; the file of the images that are not MNIST.
    device : str
        Where all jobs compute.
    open_executor, threads
        As for `run_jobs`.

    Returns
    -------
    failed : dict
        Name of a job -> its exception.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C. What has been done of each cell is kept, to the epoch.
    """
    seeds = [check_seed("seed", n) for n in seeds]
    for data in {cell.data for cell in cells}:
        images_of(data, data_path)  # an error should come now
    images_of.cache_clear()
    jobs, runs = {}, {}  # runs: name of a job -> its folder, and how many epochs
    longest_first = sorted(cells, key=lambda cell: cell.k * cell.layers, reverse=True)
    for seed in seeds:
        for cell in longest_first:
            label, settings = f"{cell.name}/seed{seed}", settings_of(cell, preset)
            origin = (f"train {cell.origin.name}/seed{seed}",) if cell.origin else ()
            jobs[f"train {label}"] = Job(
                train_cell,
                (cell, preset, settings, seed, out, data_path, device),
                origin,
            )
            evaluation = (cell, preset, seed, out, data_path, device, WEIGHTS)
            parts = [f"evaluate {label}, part {i + 1} of {PARTS}" for i in range(PARTS)]
            for i, part in enumerate(parts):
                needs = (f"train {label}",)
                jobs[part] = Job(evaluate_cell, (*evaluation, i), needs)
            jobs[f"evaluate {label}"] = Job(evaluate_cell, evaluation, (*parts,))
            folder = folder_of(out, preset, cell, seed)
            runs[f"train {label}"] = folder, epochs_of(settings)
    with progress_of(runs) as watch:
        try:
            return run_jobs(jobs, open_executor, threads, watch)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "stopped; each cell keeps its whole epochs"
            ) from None


def select(table, patterns):
    """The cells whose names match one of the ``patterns``; those from whose models they
    start come before them.

    Raises
    ------
    ValueError
        If a pattern matches none.
    """
    names, found = [cell.name for cell in TABLES[table]], set()
    for pattern in patterns:
        matching = {name for name in names if fnmatch(name, pattern)}
        if not matching:
            raise ValueError(
                f"no cell of {table} matches {pattern}: {', '.join(names)}"
            )
        found |= matching
    cells = [cell for cell in TABLES[table] if cell.name in found]
    origins = [cell.origin for cell in cells if cell.origin]
    return list(dict.fromkeys(origins + cells))
