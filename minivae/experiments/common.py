"""What the experiments share."""

import numpy as np

from ..engine.files import read_json
from ..evaluation import measure, summary_of
from ..model import VAE
from ..training import train


def train_one_layer(data, *, seed, k, folder, progress, **settings):
    """A `Run` of the paper's one-layer model, float32, by the IWAE bound, resumed
    where ``folder`` holds it.
    """
    rng = np.random.default_rng(seed)
    model = VAE(784, rng=rng, x_mean=data.train_images.mean(axis=0))
    settings |= {"seed": seed, "folder": folder, "data": data, "progress": progress}
    return train(model, data.train_images, "iwae", k, **settings)


def evaluated(path, model, images, k, progress):
    """As `evaluate`, of images as `images_seen` returns them; but what is measured is
    left in the file ``path``, and a second time it is only read.
    """
    arrays = measure(model, images, k, seed=0, partial=path, progress=progress)
    return summary_of(model, images, k, arrays)


def halved(images):
    """28 x 28 grey values -> 14 x 14, each the mean of four: for small experiments."""
    return images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)


def read_rows(path, columns):
    """The rows that an experiment wrote to ``path``; none where there is no file.

    Parameters
    ----------
    columns : dict
        Column -> its type. float may be int too.

    Raises
    ------
    ValueError
        If a row is missing one, or has another type there.
    """
    rows = read_json(path).get("rows") if path.exists() else []
    if not isinstance(rows, list):
        raise ValueError(f"{path}: no rows; remove it, and they are measured again")
    for i, row in enumerate(rows):
        check_row(path, f"row {i}", row, columns)
    return rows


def check_row(path, what, row, columns):
    """Refuse a ``row`` that has not these ``columns``, as `read_rows`; nor is an empty
    list one.
    """
    for name, kind in columns.items():
        entry = row.get(name) if isinstance(row, dict) else None
        kinds = (int, float) if kind is float else kind
        if not isinstance(entry, kinds) or entry == []:
            raise ValueError(
                f"{path}: {what} has no {kind.__name__} called {name!r}; remove the"
                " file, and it is measured again"
            )
