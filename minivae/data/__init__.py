"""The image sets: MNIST, which ships in this folder, and 28x28 OMNIGLOT; and
binarisation.

Images are rows of 784 grey values in [0, 1], upright, row by row. `binarize` turns them
into the zeros and ones that a Bernoulli likelihood speaks of.
"""

from importlib import resources
from pathlib import Path

import numpy as np

from ..engine.checks import check_range
from .formats import (
    OMNIGLOT_MD5,
    Dataset,
    as_unit_rows,
    read_idx,
    read_npz,
    read_omniglot,
)

# file -> MD5 of what is inside once uncompressed: the standard values
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
OMNIGLOT_URL = "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"


def load(name, path=None):
    """The image set called ``name``, or the one in a file of your own.

    Parameters
    ----------
    name : str or path-like
        "mnist" (LeCun et al. 1998), or "omniglot": characters of 50 alphabets (Lake et
        al. 2015) in the 28x28 form of Burda et al. (2016). Or the path of an .npz, with
        arrays ``train_images`` and ``test_images``, (n, D) or (n, height, width), and
        perhaps ``train_labels`` and ``test_labels``.
    path : path-like, optional
        OMNIGLOT only: the published ``chardata.mat``, or an .npz as above. Without it,
        the published file is fetched into the user's cache, which needs the extra
        [download].

    Returns
    -------
    Dataset
        MNIST: 60,000 and 10,000 images, labels 0-9. OMNIGLOT: 24,345 and 8,070, labels
        are alphabets 0-49.

    Raises
    ------
    ValueError
        For an unknown name, and for a file that is not what it should be, by name.
    ModuleNotFoundError
        If OMNIGLOT has to be fetched and pooch is not installed.
    """
    if Path(name).suffix == ".npz":
        return read_npz(Path(name))
    if name == "mnist":
        if path is not None:
            raise ValueError("MNIST ships with minivae; path is for omniglot only")
        folder = resources.files(__package__)
        arrays = [read_idx(folder / file, md5) for file, md5 in MNIST_FILES.items()]
        return Dataset(
            *(as_unit_rows(array) if array.ndim == 3 else array for array in arrays)
        )
    if name == "omniglot":
        path = fetch_omniglot() if path is None else Path(path)
        return read_npz(path) if path.suffix == ".npz" else read_omniglot(path)
    raise ValueError(
        "the image set must be mnist or omniglot, or the path of an .npz;"
        f" got {str(name)!r}"
    )


def fetch_omniglot():
    """The published chardata.mat, from the user's cache or, at first, the network."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "fetching OMNIGLOT needs pooch: pip install 'minivae[download]', or give"
            " the path of a chardata.mat"
        ) from error
    folder, known_hash = pooch.os_cache("minivae"), f"md5:{OMNIGLOT_MD5}"
    try:
        return Path(pooch.retrieve(OMNIGLOT_URL, known_hash, "chardata.mat", folder))
    except OSError as error:
        raise OSError(
            f"could not fetch {OMNIGLOT_URL}: without a network give the path of a"
            " chardata.mat"
        ) from error


def binarize(images, rng):
    """Each pixel is 1 with its grey value as the probability, else 0 (Salakhutdinov &
    Murray 2008).

    Called anew at each use of an image this is dynamic binarisation; called once,
    fixed.

    Parameters
    ----------
    images : ndarray
        Grey values in [0, 1].
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shaped like ``images`` and of its dtype if that is a float

    Raises
    ------
    ValueError
        For values outside [0, 1].
    """
    images = np.asarray(images)
    check_range("images", images)
    dtype = images.dtype if images.dtype.kind == "f" else np.float32
    return (rng.random(images.shape, np.float32) < images).astype(dtype)
