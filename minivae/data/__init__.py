"""The image sets: MNIST, which ships in this folder, two that are fetched, and those in
files of your own; and binarisation.

Images are rows of grey values in [0, 1], upright, row by row. `binarize` turns them
into the zeros and ones that a Bernoulli likelihood speaks of.
"""

import os
from importlib import resources
from pathlib import Path

import numpy as np

from ..engine.checks import check_range, check_real, check_rng, check_seed
from .arrays import read_npy, read_npz
from .dataset import (
    TEST_SHARE,
    Dataset,
    hold_back,
    image_shape_of,
    pictures_of,
    split_off_test,
)
from .fetch import fetch_fashion_mnist, fetch_omniglot
from .idx import idx_splits, read_idx, read_idx_pictures
from .omniglot import read_omniglot
from .pictures import read_folder
from .table import read_csv

# file -> MD5 of what is inside once uncompressed: the standard values
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}


def mnist():
    """MNIST's `Pictures`: 60,000 to train on, 10,000 to test on; labels 0-9."""
    folder = resources.files(__package__)
    arrays = [read_idx(folder / file, md5) for file, md5 in MNIST_FILES.items()]
    return [pictures_of(*arrays[:2]), pictures_of(*arrays[2:])]


NAMED = {
    "mnist": mnist,
    "omniglot": fetch_omniglot,
    "fashion-mnist": fetch_fashion_mnist,
}
BY_SUFFIX = {".npy": read_npy, ".npz": read_npz, ".mat": read_omniglot}


def load(name, *, test_share=None, label_column=None, validation=0, seed=0):
    """The image set called ``name``, or the one in a file or a folder of your own.

    Parameters
    ----------
    name : str or path-like
        "mnist" (LeCun et al. 1998). "omniglot": characters of 50 alphabets (Lake et al.
        2015) in the 28x28 form of Burda et al. (2016). "fashion-mnist" (Xiao et al.
        2017). The last two are fetched into the user's cache, which needs the extra
        [download].

        Or a path: an .npy, (n, D), (n, height, width) or (n, height, width, 3); an .npz
        of ``train_images``, and perhaps ``test_images``, ``train_labels`` and
        ``test_labels``; a .csv, a picture a line; an IDX file, plain or gzipped, or a
        folder of files called like MNIST's; a folder of pictures, whose subfolders are
        labels; OMNIGLOT's published ``chardata.mat``. Bytes (uint8) lie between 0 and
        255, all other numbers in [0, 1].
    test_share : float, optional
        Of one array without test images of its own: the share that becomes them, drawn
        by ``seed``. Left out, it is 0.1.
    label_column : str or int, optional
        Of a .csv: the column that holds labels, by its name or its number from 0 on.
    validation : int
        So many images are taken from the end of the training images, to choose by.
    seed : int

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        For an unknown name, and for a file that is not what it should be, by name.
    FileNotFoundError
        If there is nothing at a path.
    ModuleNotFoundError
        If an image set has to be fetched and pooch is not installed.
    """
    name, options, seed = os.fspath(name), {}, check_seed("seed", seed)
    if name in NAMED:
        splits = NAMED[name]()
    else:
        splits = read_path(Path(name), label_column)
        name = os.path.abspath(name)
    if label_column is not None:
        if not name.lower().endswith(".csv"):
            raise ValueError(f"{name}: a label_column is for a .csv only")
        is_name = isinstance(label_column, str)
        options["label_column"] = label_column if is_name else int(label_column)
    if len(splits) == 1:
        share = TEST_SHARE if test_share is None else test_share
        share = check_real("test_share", share)
        options |= {"test_share": share, "seed": seed}
        splits = split_off_test(splits[0], share, seed)
    elif test_share is not None:
        raise ValueError(f"{name} has test images of its own: leave test_share out")
    train, test = splits
    if train.image_shape != test.image_shape:
        raise ValueError(
            f"{name}: images of {by(train.image_shape)} pixels to train on, of"
            f" {by(test.image_shape)} to test"
        )
    dataset = Dataset(
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        image_shape=train.image_shape,
        name=name,
        options=options,
    )
    return hold_back(dataset, validation) if validation else dataset


def read_path(path, label_column):
    """The `Pictures` at a path, of one split or of two."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such file or folder, and the image sets that have"
            f" names are {', '.join(NAMED)}"
        )
    if path.is_dir():
        return idx_splits(path) or read_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path, label_column)
    if suffix in BY_SUFFIX:
        return BY_SUFFIX[suffix](path)
    return [read_idx_pictures(path)]


def by(image_shape):
    """28 x 28, as text."""
    return " x ".join(map(str, image_shape))


def source_of(data, x_dim):
    """What a run's settings keep of where its images come from.

    Parameters
    ----------
    data : str, path-like, Dataset or None
    x_dim : int
        Their pixels, for a picture's shape where it is not known.
    """
    if isinstance(data, Dataset):
        shape, name, options = data.image_shape, data.name, data.options
    else:
        shape, options = image_shape_of((x_dim,)), {}
        name = None if data is None else os.fspath(data)
        if name is not None and name not in NAMED and os.path.exists(name):
            name = os.path.abspath(name)
    return {"data": name, "data_options": options, "image_shape": list(shape)}


def binarize(images, rng):
    """Each pixel is 1 with its grey value as the probability, else 0 (Salakhutdinov &
    Murray 2008).

    Called anew at each use of an image this is dynamic binarisation; called once,
    fixed.

    Parameters
    ----------
    images : ndarray
        Grey values in [0, 1].
    rng : numpy.random.Generator or int

    Returns
    -------
    x : ndarray, shaped like ``images`` and of its dtype if that is a float

    Raises
    ------
    ValueError
        For values outside [0, 1].
    """
    images, rng = np.asarray(images), check_rng(rng)
    check_range("images", images)
    dtype = images.dtype if images.dtype.kind == "f" else np.float32
    return (rng.random(images.shape, np.float32) < images).astype(dtype)
