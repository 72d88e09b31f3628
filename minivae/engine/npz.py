"""Arrays out of an .npz, or an .npy, that a stranger may have made.

A zip file can name a terabyte of zeros in a kilobyte, so nothing is unpacked whole: an
array's type and shape are looked at first, and then the arrays that are needed are
read, one by one. Nothing is unpickled.
"""

import os
import zipfile
from contextlib import contextmanager
from math import prod

from numpy.lib import format as npy

from .files import open_regular

MOST_BYTES = 2**30  # of one array


@contextmanager
def open_npz(path, what):
    """Yield two functions of an array's name: ``header(name)``, its dtype and shape or
    None where there is no such array; and ``read(name)``, the array.

    Parameters
    ----------
    path : path-like
    what : str
        What the file should be, as "a checkpoint".

    Raises
    ------
    ValueError
        If the file is damaged, by either function too; it names the file.
    """

    def header(name):
        if f"{name}.npy" not in members:
            return None
        with damaged(path, what), archive.open(f"{name}.npy") as member:
            return read_header(member, name, archive.getinfo(f"{name}.npy").file_size)

    def read(name):
        header(name)
        with damaged(path, what), archive.open(f"{name}.npy") as member:
            return npy.read_array(member, allow_pickle=False)

    with open_regular(path) as file:
        with damaged(path, what):
            archive = zipfile.ZipFile(file)
            members = set(archive.namelist())
        with archive:
            yield header, read


@contextmanager
def open_npy(path, what):
    """Yield the same two functions, without a name, for the one array of an .npy."""

    def header():
        with damaged(path, what):
            file.seek(0)
            return read_header(file, "the array", os.fstat(file.fileno()).st_size)

    def read():
        header()
        with damaged(path, what):
            file.seek(0)
            return npy.read_array(file, allow_pickle=False)

    with open_regular(path) as file:
        yield header, read


@contextmanager
def damaged(path, what):
    """Name ``path`` in a ValueError, whatever was raised."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # zipfile and NumPy raise nearly anything
        raise ValueError(f"{path}: damaged, or not {what} ({error!r})") from error


def read_header(file, name, length):
    """The dtype and shape of the array that ``file``, of ``length`` bytes, begins."""
    version = npy.read_magic(file)
    if version != (1, 0):  # which has a header of 64 KB at most
        raise ValueError(f"{name} is of format {version}, not (1, 0)")
    shape, _, dtype = npy.read_array_header_1_0(file)
    if dtype.hasobject or min(shape, default=1) < 0:
        raise ValueError(f"{name} is not an array of plain numbers")
    size = prod(shape) * dtype.itemsize
    if size > MOST_BYTES:
        raise ValueError(f"{name} would take {size:,} bytes")
    if file.tell() + size != length:
        raise ValueError(f"{name} is not as long as its shape says")
    return dtype, shape
