"""What is kept of a run beside its own files, for the tables and their pictures: each
unit's variance after an epoch, and the machine.

The run can do without them: where they are damaged they are left out, and begun anew.
"""

import warnings

from ..engine.files import columns_of, read_json, write_csv, write_json
from ..engine.machine import processor, versions
from ..evaluation import evaluate

UNITS, MACHINE, THEN = "unit_variances.csv", "machine.json", ", then "
ALL, EACH = 400, 10  # of so many epochs each is kept; of those after them each tenth
PACKAGES = {
    "cpu": ("numpy", "numba", "scipy"),
    "cuda": ("numpy", "numba-cuda", "cupy-cuda13x"),
}


def after_epoch(images, run):
    """Keep what a table and its pictures say of a run, and its own files do not."""
    if is_kept(run.history["epoch"][-1]):
        keep_unit_variances(images, run)
    keep_machine(run)


def is_kept(epoch):
    """Whether the units' variances are kept: of a long run not of each epoch, since the
    file is written anew each time.
    """
    return epoch <= ALL or epoch % EACH == 0


def catch_up(images, run):
    """Keep what `after_epoch` keeps of a run's last epoch, if a kill came before it."""
    kept, epoch = read_notes(run.folder / UNITS, columns_of), run.history["epoch"][-1]
    if is_kept(epoch) and kept.get("epoch", [])[-1:] != [epoch]:
        after_epoch(images, run)


def read_notes(path, read):
    """What ``read`` finds in the file; a damaged one is said, and counts as empty."""
    try:
        return read(path) if path.exists() else {}
    except ValueError as error:
        warnings.warn(f"{error}: left out", stacklevel=2)
        return {}


def read_machine(path):
    """What `keep_machine` wrote.

    Raises
    ------
    ValueError
        If the file is damaged; it names the file.
    """
    kept = read_json(path)
    if not all(isinstance(kept.get(name), str) for name in ("processor", "versions")):
        raise ValueError(f"{path}: not what a run keeps of its machine")
    return kept


def keep_unit_variances(images, run):
    """Keep each unit's variance (eq. 12.3), in a row for the epoch, beside the run's
    files: for the picture of when it became active, or ceased to be.
    """
    path, epoch = run.folder / UNITS, run.history["epoch"][-1]
    kept = read_notes(path, columns_of)
    epochs = [int(one) for one in kept.get("epoch", []) if one < epoch]
    columns = {"epoch": [*epochs, epoch]}
    layers = evaluate(run.model, images, 1, progress=False).unit_variances
    for l, variances in enumerate(layers, start=1):
        for unit, variance in enumerate(variances, start=1):
            name = f"z{l}_{unit}"
            before = kept.get(name, [])[: len(epochs)]
            columns[name] = [*before, float(variance)]
    write_csv(path, columns)


def keep_machine(run):
    """Keep what the epoch ran on; a run may begin on one machine and end on another."""
    path, device = run.folder / MACHINE, run.model.device
    kept = read_notes(path, read_machine)
    packages = versions("minivae", *PACKAGES[device])
    now = {"processor": processor(device), "versions": packages}
    for name, value in now.items():
        before = kept.get(name, value)
        same = before.split(THEN)[-1] == value
        now[name] = before if same else f"{before}{THEN}{value}"
    if now != kept:
        write_json(path, now)
