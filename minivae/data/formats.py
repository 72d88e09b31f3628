"""Readers of image sets: IDX and .npz of any, the published chardata.mat of OMNIGLOT.

Whoever made a file, it cannot do harm: sizes are read before contents, nothing is
unpickled, and SciPy's reader of .mat, which a single wrong byte can crash, gets only
the published file.
"""

import gzip
import hashlib
import io
import math
import shlex
import struct
import zlib
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..engine.checks import check_range
from ..engine.files import open_regular
from ..engine.npz import MOST_BYTES, open_npz

OMNIGLOT_MD5 = "21ecaf34373511aa7691cf2e0802aa3d"
MOST_MAT = 2**27  # bytes of a .mat whose checksum is worth taking
# converts a .mat of the same arrays: pictures are columns, stored by their own columns
CONVERT = (
    "import sys, numpy as np; from scipy.io import loadmat; m = loadmat(sys.argv[1]);"
    " up = lambda a: a.T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784);"
    " np.savez_compressed(sys.argv[2],"
    ' train_images=up(m["data"]), train_labels=m["target"].argmax(0),'
    ' test_images=up(m["testdata"]), test_labels=m["testtarget"].argmax(0))'
)


class Dataset(NamedTuple):
    """Images float32 in [0, 1] of shape (n, D), and labels of shape (n,), whole
    numbers; None for labels that a file does not have.
    """

    train_images: np.ndarray
    train_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray | None


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

    def up_to(n):
        try:
            return file.read(n)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error})") from error

    with open_regular(path) as raw, gzip.GzipFile(fileobj=raw) as file:
        magic = up_to(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or magic[3] == 0:
            raise ValueError(
                f"{path}: magic number 0x{magic.hex()}, where IDX of unsigned bytes has"
                " 0x000008nn"
            )
        axes = up_to(4 * magic[3])
        if len(axes) < 4 * magic[3]:
            got = len(magic + axes)
            raise ValueError(f"{path}: truncated in its header, after {got} bytes")
        shape = struct.unpack(f">{magic[3]}I", axes)
        want = math.prod(shape)
        if want > MOST_BYTES:
            raise ValueError(
                f"{path}: shape {shape} needs {want:,} bytes, more than {MOST_BYTES:,}"
            )
        body = up_to(want + 1)
    if len(body) < want:
        raise ValueError(
            f"{path}: truncated: shape {shape} needs {want} bytes of data,"
            f" but there are {len(body)}"
        )
    if len(body) > want:
        raise ValueError(
            f"{path}: oversized: shape {shape} needs {want} bytes of data,"
            " but there are more"
        )
    digest = hashlib.md5(magic + axes, usedforsecurity=False)
    digest.update(body)
    if md5 not in (None, digest.hexdigest()):
        raise ValueError(
            f"{path}: the checksum of its contents is not {md5}:"
            " the file was changed or damaged"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def as_unit_rows(images):
    """(n, ...) uint8 -> (n, D) float32 in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)


def read_npz(path):
    """An image set of arrays ``train_images`` and ``test_images``, and perhaps
    ``train_labels`` and ``test_labels``.

    Images are (n, D) or (n, height, width): floats or booleans in [0, 1], or bytes from
    0 to 255.

    Raises
    ------
    ValueError
        For a damaged file, and for arrays that are no images or labels, by name.
    """

    def array(name, kinds, axes, wanted):
        found = header(name)
        if found is None:
            raise ValueError(f"{path}: no array called {name}")
        dtype, shape = found
        if dtype.kind not in kinds or len(shape) not in axes or 0 in shape:
            raise ValueError(f"{path}: {name} must be {wanted}; got {dtype} {shape}")
        if math.prod(shape) * 4 > MOST_BYTES:
            raise ValueError(f"{path}: {name} of shape {shape} is too large")
        return read(name)

    def images_of(split):
        name = f"{split}_images"
        images = array(name, "fbu", (2, 3), "grey values (n, D) or (n, height, width)")
        if images.dtype.kind == "u":
            if images.dtype != np.uint8 or images.max() <= 1:
                raise ValueError(
                    f"{path}: {name} holds {images.dtype} up to {images.max()}: save"
                    " bytes from 0 to 255, or floats or booleans in [0, 1]"
                )
            return as_unit_rows(images)
        images = images.reshape(len(images), -1).astype(np.float32)
        with named_range(path):
            check_range(name, images)
        return images

    def labels_of(split, n):
        name = f"{split}_labels"
        if header(name) is None:
            return None
        labels = array(name, "iu", (1,), "whole numbers (n,)")
        if len(labels) != n:
            raise ValueError(f"{path}: {n} {split} images, but {len(labels)} labels")
        return labels

    with open_npz(path, "an .npz of images") as (header, read):
        train, test = images_of("train"), images_of("test")
        if train.shape[1] != test.shape[1]:
            raise ValueError(
                f"{path}: images of {train.shape[1]} pixels to train on,"
                f" of {test.shape[1]} to test"
            )
        labels = labels_of("train", len(train)), labels_of("test", len(test))
    return Dataset(train, labels[0], test, labels[1])


@contextmanager
def named_range(path):
    """Name ``path`` in a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_omniglot(path):
    """The two splits of the published ``chardata.mat``."""
    from scipy.io import loadmat

    with open_regular(path, MOST_MAT) as file:
        raw = file.read()
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != OMNIGLOT_MD5:
        converted = path.with_suffix(".npz")
        command = ["python", "-c", CONVERT, str(path), str(converted)]
        raise ValueError(
            f"{path}: not the published chardata.mat, whose MD5 is {OMNIGLOT_MD5}; a"
            " damaged .mat can crash its reader. If you trust this one, convert it once"
            f" and give {converted} instead: {shlex.join(command)}"
        )
    contents, splits = loadmat(io.BytesIO(raw)), []
    for images_key, labels_key in (("data", "target"), ("testdata", "testtarget")):
        # pictures are columns, stored down the picture's own columns
        pictures = contents[images_key].T.reshape(-1, 28, 28).transpose(0, 2, 1)
        images = np.ascontiguousarray(pictures.reshape(-1, 784), np.float32)
        splits += [images, contents[labels_key].argmax(axis=0).astype(np.uint8)]
    return Dataset(*splits)
