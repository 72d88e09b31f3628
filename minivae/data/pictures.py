"""A folder of pictures: PNG, JPEG and others, by Pillow, which matplotlib brings."""

from math import prod
from pathlib import Path

import numpy as np

from ..engine.files import open_regular
from ..engine.npz import MOST_BYTES
from .dataset import pictures_of

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
GREY = {"1", "L", "LA", "La"}  # Pillow's modes of 8 bits or fewer and no colour
COLOURED = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


def read_folder(folder):
    """The `Pictures` in a folder, in the order of their names.

    Subfolders are labels: numbers if all are called by whole numbers, else their names.
    Two subfolders called train and test are the two splits.

    Raises
    ------
    ValueError
        If there are none, or if one is of another size than the first: with both names.
    """
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir())
    if [path.name for path in subfolders] == ["test", "train"]:
        test, train = (read_folder(path)[0] for path in subfolders)
        return [train, test]
    paths, labels = pictures_in(folder), []
    if not paths:
        for subfolder in subfolders:
            here = pictures_in(subfolder)
            paths, labels = paths + here, labels + [subfolder.name] * len(here)
    elif any(pictures_in(subfolder) for subfolder in subfolders):
        raise ValueError(
            f"{folder}: pictures beside subfolders of pictures: what is their label?"
        )
    if not paths:
        raise ValueError(
            f"{folder}: neither pictures ({' '.join(FORMATS)}) nor files called like"
            " MNIST's are here"
        )
    labels = np.array(labels) if labels else None
    if labels is not None and all(name.isdecimal() for name in labels):
        labels = labels.astype(np.int64)
    return [pictures_of(read_all(paths), labels, str(folder))]


def pictures_in(folder):
    """The paths of a folder's pictures, by name."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in FORMATS and not path.name.startswith(".")
    )


def read_all(paths):
    """The pictures as one array of bytes: (n, height, width) if all are grey, else (n,
    height, width, 3).
    """
    first = read_picture(paths[0])
    if len(paths) * first.nbytes * 4 > MOST_BYTES:  # as float32
        raise ValueError(
            f"{paths[0].parent}: {len(paths):,} such pictures are too many"
        )
    array = np.empty((len(paths), *first.shape), np.uint8)
    for i, path in enumerate(paths):
        picture = read_picture(path)
        if picture.shape != first.shape:
            height, width, _ = picture.shape
            raise ValueError(
                f"{path} is {width} x {height} pixels, {paths[0].name} is"
                f" {first.shape[1]} x {first.shape[0]}: bring them to one size first"
            )
        array[i] = picture
    # a grey picture is often saved in three equal channels
    grey = (array[..., :1] == array).all()
    return array[..., 0] if grey else array


def read_picture(path):
    """A picture's (height, width, 3) bytes. What is transparent is left out."""
    from PIL import Image

    with open_regular(path) as file:
        try:
            with Image.open(file, formats=sorted({*FORMATS.values()})) as picture:
                if prod(picture.size) > MOST_BYTES:
                    raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels")
                if picture.mode not in GREY | COLOURED:
                    raise ValueError(f"mode {picture.mode}: save 8 bits a channel")
                return np.asarray(picture.convert("RGB"))
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises nearly anything
            raise ValueError(f"{path}: not a picture to read ({error})") from error
