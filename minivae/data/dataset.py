"""An image set: its splits, its pictures' shape, and where it came from."""

from dataclasses import dataclass, field, replace
from math import isqrt, prod
from typing import NamedTuple

import numpy as np

from ..engine.checks import check_range, check_size
from ..engine.npz import MOST_BYTES

TEST_SHARE = 0.1  # of an array that has no test images of its own


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on, to choose by (if asked for) and to test on.

    Attributes
    ----------
    train_images, test_images : ndarray of shape (n, D)
        float32 in [0, 1], a picture a row.
    train_labels, test_labels : ndarray of shape (n,), or None
        Whole numbers, or words; None where there are none.
    image_shape : tuple of int
        (height, width), or (height, width, channels) of colour. Left out, a picture is
        square, or a strip of one row where D is no square.
    name : str, optional
        As `load` takes it; the whole path of a file.
    options : dict
        With these, `load` makes the same splits of it.
    validation_images, validation_labels : ndarray, or None
        The end of the training images, where `load` was asked to hold it back.
    """

    train_images: np.ndarray
    train_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray | None
    image_shape: tuple | None = None
    name: str | None = None
    options: dict = field(default_factory=dict)
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None

    def __post_init__(self):
        if self.image_shape is None:
            shape = image_shape_of(self.train_images.shape[1:])
            object.__setattr__(self, "image_shape", shape)

    def __repr__(self):
        shape = " x ".join(map(str, self.image_shape))
        counts = [
            f"{len(images):,} {split}"
            for split in ("train", "validation", "test")
            if (images := getattr(self, f"{split}_images")) is not None
        ]
        labels = self.train_labels
        kinds = "no" if labels is None else f"{len(np.unique(labels))} kinds of"
        return (
            f"Dataset {self.name or 'without a name'}: {', '.join(counts)} images of"
            f" {shape}, {kinds} labels"
        )

    @property
    def channels(self):
        """1 for grey pictures, 3 for coloured ones."""
        return (*self.image_shape, 1)[2]


class Pictures(NamedTuple):
    """What a reader finds, of one split."""

    images: np.ndarray  # (n, D) float32 in [0, 1]
    labels: np.ndarray | None
    image_shape: tuple


def image_shape_of(axes):
    """The (height, width) or (height, width, 3) of pictures of these axes: (D,), (h,
    w), (h, w, channels). More axes are pictures that stand on each other.
    """
    if len(axes) == 1:
        side = isqrt(axes[0])
        return (side, side) if side * side == axes[0] else (1, *axes)
    if len(axes) == 3 and axes[2] == 1:
        return tuple(axes[:2])
    if len(axes) == 2 or (len(axes) == 3 and axes[2] == 3):
        return tuple(axes)
    return prod(axes[:-1]), axes[-1]


def pictures_of(array, labels=None, what="images"):
    """The `Pictures` in an array (n, ...): bytes from 0 to 255, or floats or booleans
    in [0, 1].

    What 255 means is said by the type and never guessed from the numbers.

    Raises
    ------
    ValueError
        That begins with ``what``, for what is no such array, and for another number of
        labels.
    """
    refuse_other(what, array.dtype, array.shape)
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        array = np.moveaxis(array, 1, 3)  # the channels stood first
    rows = array.reshape(len(array), -1)
    if array.dtype.kind == "u":
        if array.dtype != np.uint8 or array.max() <= 1:
            raise ValueError(
                f"{what} holds {array.dtype} up to {array.max()}: save bytes from 0 to"
                " 255, or floats or booleans in [0, 1]"
            )
        rows = rows / np.float32(255)
    else:
        check_range(what, rows)
        rows = np.ascontiguousarray(rows, np.float32)
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{what}: {len(rows)} images, but {len(labels)} labels")
    return Pictures(rows, labels, image_shape_of(array.shape[1:]))


def refuse_other(what, dtype, shape):
    """Refuse what is no array of images, before it is read."""
    if dtype.kind not in "fbu" or len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"{what} must be grey values (n, D), (n, height, width) or (n, height,"
            f" width, channels); got {dtype} {shape}"
        )
    if prod(shape) * 4 > MOST_BYTES:
        raise ValueError(f"{what} of shape {shape} is too large")


def split_off_test(pictures, share, seed):
    """Training and test `Pictures`: ``share`` of one array, drawn by the seed; each in
    the array's order.
    """
    n = len(pictures.images)
    if not 0 < share < 1 or not 1 <= round(share * n) < n:
        raise ValueError(
            f"test_share must leave one of {n} images or more to test on and to train"
            f" on; got {share:g}"
        )
    order, cut = np.random.default_rng(seed).permutation(n), round(share * n)
    return [some_of(pictures, np.sort(part)) for part in (order[cut:], order[:cut])]


def some_of(pictures, numbers):
    """The pictures of these numbers."""
    labels = None if pictures.labels is None else pictures.labels[numbers]
    return Pictures(pictures.images[numbers], labels, pictures.image_shape)


def hold_back(dataset, n):
    """The image set with its last ``n`` training images as validation images."""
    n, most = check_size("validation", n), len(dataset.train_images) - 1
    if n > most:
        raise ValueError(f"validation must leave an image to train on: at most {most}")
    images, labels = dataset.train_images, dataset.train_labels
    return replace(
        dataset,
        train_images=images[:-n],
        train_labels=None if labels is None else labels[:-n],
        validation_images=images[-n:],
        validation_labels=None if labels is None else labels[-n:],
        options=dataset.options | {"validation": n},
    )
