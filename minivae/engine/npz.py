"""Arrays out of an .npz that a stranger may have made.

A zip file can name a terabyte of zeros in a kilobyte, so nothing is unpacked whole: an
array's type and shape are looked at first, and then the arrays that are needed are
read, one by one. Nothing is unpickled.
"""

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

    @contextmanager
    def named():
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # zipfile and NumPy raise nearly anything
            raise ValueError(f"{path}: damaged, or not {what} ({error!r})") from error

    def header(name):
        if f"{name}.npy" not in members:
            return None
        with named(), archive.open(f"{name}.npy") as member:
            version = npy.read_magic(member)
            if version != (1, 0):  # which has a header of 64 KB at most
                raise ValueError(f"{name} is of format {version}, not (1, 0)")
            shape, _, dtype = npy.read_array_header_1_0(member)
            if dtype.hasobject or min(shape, default=1) < 0:
                raise ValueError(f"{name} is not an array of plain numbers")
            size = prod(shape) * dtype.itemsize
            if size > MOST_BYTES:
                raise ValueError(f"{name} would take {size:,} bytes")
            if member.tell() + size != archive.getinfo(f"{name}.npy").file_size:
                raise ValueError(f"{name} is not as long as its shape says")
        return dtype, shape

    def read(name):
        header(name)
        with named(), archive.open(f"{name}.npy") as member:
            return npy.read_array(member, allow_pickle=False)

    with open_regular(path) as file:
        with named():
            archive = zipfile.ZipFile(file)
            members = set(archive.namelist())
        with archive:
            yield header, read
