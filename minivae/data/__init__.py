"""The image sets: MNIST, which ships in this folder, and 28x28 OMNIGLOT; and
binarisation.

Images are rows of 784 grey values in [0, 1], upright, row by row. `binarize` turns them
into the zeros and ones that a Bernoulli likelihood speaks of.
"""

import gzip
import hashlib
import math
import struct
import zlib
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..engine.checks import check_range


class Dataset(NamedTuple):
    """Images float32 in [0, 1] of shape (n, 784), and labels uint8 of shape (n,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


# file -> MD5 of what is inside once uncompressed: the standard values
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
OMNIGLOT_URL = "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"
OMNIGLOT_MD5 = "21ecaf34373511aa7691cf2e0802aa3d"


def load(name, path=None):
    """The image set called ``name``.

    Parameters
    ----------
    name : str
        "mnist" (LeCun et al. 1998), or "omniglot": characters of 50 alphabets (Lake et
        al. 2015) in the 28x28 form of Burda et al. (2016).
    path : path-like, optional
        OMNIGLOT only: a ``chardata.mat``. Without it, the published file is fetched
        into the user's cache, which needs the extra [download].

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
    if name == "mnist":
        if path is not None:
            raise ValueError("MNIST ships with minivae; path is for omniglot only")
        folder = resources.files(__package__)
        arrays = [read_idx(folder / file, md5) for file, md5 in MNIST_FILES.items()]
        return Dataset(
            *(as_unit_rows(array) if array.ndim == 3 else array for array in arrays)
        )
    if name == "omniglot":
        return read_omniglot(fetch_omniglot() if path is None else Path(path))
    raise ValueError(f"the image set must be mnist or omniglot; got {name!r}")


def read_idx(path, md5=None):
    """The array in a gzipped IDX file of unsigned bytes.

    The format: two zero bytes, a type (8 = unsigned byte), the number of axes, each
    axis as a big-endian 32-bit integer, then the data.

    Parameters
    ----------
    path : path-like
    md5 : str, optional
        Of the uncompressed contents.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    ValueError
        If the file is not gzip, not IDX of unsigned bytes, too short, too long, or has
        another checksum.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or raw[3] == 0:
        raise ValueError(
            f"{path}: magic number 0x{raw[:4].hex()}, where IDX of unsigned bytes has"
            " 0x000008nn"
        )
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path}: truncated in its header, after {len(raw)} bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    want, got = math.prod(shape), len(raw) - start
    if got != want:
        state = "truncated" if got < want else "oversized"
        raise ValueError(
            f"{path}: {state}: shape {shape} needs {want} bytes of data,"
            f" but there are {got}"
        )
    if md5 is not None and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(
            f"{path}: the checksum of its contents is not {md5}:"
            " the file was changed or damaged"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def as_unit_rows(images):
    """(n, 28, 28) uint8 -> (n, 784) float32 in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)


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


def read_omniglot(path):
    """The two splits of a ``chardata.mat``: pictures are its columns, stored down the
    picture's own columns.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        contents = loadmat(path)
    except Exception as error:  # SciPy raises nearly anything on a damaged file
        raise ValueError(f"{path}: not a readable .mat file ({error})") from error
    splits = []
    for images_key, labels_key in (("data", "target"), ("testdata", "testtarget")):
        missing = {images_key, labels_key} - contents.keys()
        if missing:
            raise ValueError(f"{path}: no array called {', '.join(sorted(missing))}")
        images, labels = contents[images_key], contents[labels_key]
        if images.ndim != 2 or images.shape[0] != 784 or images.shape[1] == 0:
            raise ValueError(
                f"{path}: {images_key} must be of shape (784, n); got {images.shape}"
            )
        if labels.shape != (50, images.shape[1]):
            raise ValueError(
                f"{path}: {labels_key} must be of shape (50, {images.shape[1]});"
                f" got {labels.shape}"
            )
        grey = images.dtype.kind in "uif"
        if not (grey and images.min() >= 0 and images.max() <= 1):  # nor is a NaN grey
            raise ValueError(f"{path}: {images_key} must hold grey values in [0, 1]")
        upright = images.T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784)
        splits += [
            np.ascontiguousarray(upright, np.float32),
            labels.argmax(axis=0).astype(np.uint8),
        ]
    return Dataset(*splits)


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
