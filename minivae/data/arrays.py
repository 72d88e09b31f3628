"""NumPy's own formats: .npy and .npz."""

from ..engine.npz import open_npy, open_npz
from .dataset import pictures_of, refuse_other


def read_npy(path):
    """The `Pictures` of an .npy: one array of images."""
    with open_npy(path, "an .npy of images") as (header, read):
        refuse_other(str(path), *header())
        return [pictures_of(read(), what=str(path))]


def read_npz(path):
    """The `Pictures` of an .npz, to train on and to test on: arrays ``train_images``
    and ``test_images``, and perhaps ``train_labels`` and ``test_labels``.

    Without ``test_images``, those to train on.

    Raises
    ------
    ValueError
        For a damaged file, and for arrays that are no images or labels, by name.
    """

    def split(name):
        what = f"{path}: {name}_images"
        if header(f"{name}_images") is None:
            raise ValueError(f"{path}: no array called {name}_images")
        refuse_other(what, *header(f"{name}_images"))
        return pictures_of(read(f"{name}_images"), labels_of(name), what)

    def labels_of(name):
        found = header(f"{name}_labels")
        if found is None:
            return None
        dtype, shape = found
        if dtype.kind not in "iuU" or len(shape) != 1:
            raise ValueError(
                f"{path}: {name}_labels must be whole numbers or words (n,);"
                f" got {dtype} {shape}"
            )
        return read(f"{name}_labels")

    with open_npz(path, "an .npz of images") as (header, read):
        names = ["train", "test"] if header("test_images") else ["train"]
        return [split(name) for name in names]
