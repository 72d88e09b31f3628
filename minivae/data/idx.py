"""IDX, the format of MNIST's files: plain or gzipped.

Whoever made a file, it cannot do harm: sizes are read before contents, and nothing is
unpickled. That holds for every reader in this folder.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..engine.files import open_regular
from ..engine.npz import MOST_BYTES
from .dataset import pictures_of


def read_idx(path, md5=None):
    """The array in an IDX file of unsigned bytes, which may be gzipped.

    The format: two zero bytes, a type (8 = unsigned byte), the number of axes, each
    axis as a big-endian 32-bit integer, then the data.

    Parameters
    ----------
    path : str or path-like
    md5 : str, optional
        Of the uncompressed contents.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    ValueError
        If the file is not IDX of unsigned bytes, too short, too long, or has another
        checksum.
    """

    def up_to(n):
        try:
            return file.read(n)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error})") from error

    with open_regular(path) as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if gzipped else raw
        magic = up_to(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or magic[3] == 0:
            raise ValueError(
                f"{path}: magic number 0x{magic.hex()}, where IDX of unsigned bytes has"
                " 0x000008nn; other kinds are known by their names: .npy, .npz, .mat,"
                " .csv"
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


def read_idx_pictures(path):
    """The `Pictures` of an IDX file of images, with the labels of the file beside it
    that is called alike, if there is one: labels for images, idx1 for idx3.
    """
    name = path.name.replace("images", "labels")
    for axes in "23456789":
        name = name.replace(f"idx{axes}", "idx1")
    bare = name.removesuffix(".gz")
    beside = [path.with_name(bare), path.with_name(f"{bare}.gz")]
    found = [file for file in beside if file.is_file() and file != path]
    labels = read_idx(found[0]) if found else None
    return pictures_of(read_idx(path), labels, str(path))


def idx_splits(folder):
    """The `Pictures` to train on, and those to test on if they are there, in a folder
    of files called like MNIST's; none in another folder.
    """
    splits = []
    for prefix in ("train", "t10k"):
        found = sorted(Path(folder).glob(f"{prefix}-images*idx*"))
        splits += [read_idx_pictures(path) for path in found[:1]]
    return splits
