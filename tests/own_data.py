"""Small image sets in files, as a user may have them."""

import gzip
import struct

import numpy as np
from PIL import Image


def made_up(n, *axes, seed=0):
    """Bytes (n, *axes): bright spots at a place of the label's; and labels 0, 1, 2."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 60, (n, *axes), np.uint8), np.arange(n) % 3
    for label in range(3):
        images[labels == label, label : label + 2] = 250
    return images, labels.astype(np.uint8)


def idx_bytes(array):
    axes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + axes + array.tobytes()


def write_idx_set(folder, shape=(6, 9), n=(60, 20)):
    """Four files called like MNIST's, of another size: one gzipped, one not."""
    folder.mkdir()
    for prefix, count in zip(("train", "t10k"), n):
        images, labels = made_up(count, *shape)
        path = folder / f"{prefix}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


def write_pictures(folder, n=300, shape=(7, 5)):
    """PNGs in subfolders, a subfolder a label."""
    for i, (image, label) in enumerate(zip(*made_up(n, *shape))):
        path = folder / "abc"[label] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def write_csv(path, n=80):
    """8 x 8 digits with a header and labels: scikit-learn's where it is installed."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        images, labels = made_up(n, 64)
        images = images / 255
    else:
        images, labels = load_digits(return_X_y=True)
        images, labels = images[:n] / 16, labels[:n]
    lines = [",".join(["digit", *(f"pixel{i}" for i in range(64))])]
    for image, label in zip(images, labels):
        lines.append(",".join([str(label), *(f"{pixel:.4g}" for pixel in image)]))
    path.write_text("\n".join(lines) + "\n")
    return path
