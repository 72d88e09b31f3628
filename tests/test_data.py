"""The image sets, the IDX reader's refusals, and binarisation."""

import gzip
import hashlib
import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

import minivae as mv
from minivae import data


@pytest.fixture(scope="module")
def mnist():
    return mv.load("mnist")


def test_mnist(mnist):
    assert mnist.train_images.shape == (60000, 784)
    assert mnist.test_images.shape == (10000, 784)
    assert mnist.train_images.dtype == np.float32
    assert mnist.train_images.min() == 0 and mnist.train_images.max() == 1
    assert mnist.train_images.mean(dtype=np.float64) == pytest.approx(0.13066, abs=5e-6)
    assert mnist.test_images.mean(dtype=np.float64) == pytest.approx(0.13251, abs=5e-6)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train_labels).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.test_labels).tolist() == counts


def test_mnist_is_upright(mnist):
    """The mean 1 is a standing bar; transposed it would lie."""
    mean = mnist.train_images[mnist.train_labels == 1].mean(axis=0).reshape(28, 28)
    height, width = ((mean > 0.3).any(axis=axis).sum() for axis in (1, 0))
    assert height > 1.5 * width


def idx(shape=(2, 3), body=None, magic=b"\x00\x00\x08", axes=None):
    body = bytes(range(int(np.prod(shape)))) if body is None else body
    axes = bytes([len(shape) if axes is None else axes])
    return magic + axes + struct.pack(f">{len(shape)}I", *shape) + body


def idx_gz():
    """As bytes that do not depend on the clock: they are part of a test's name."""
    return gzip.compress(idx(), mtime=0)


def written(tmp_path, raw, compress=True):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(raw) if compress else raw)
    return path


def test_read_idx(tmp_path):
    array = data.read_idx(written(tmp_path, idx()), hashlib.md5(idx()).hexdigest())
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "raw, compress, message",
    [
        (idx(magic=b"\x00\x00\x0d"), True, "magic number 0x00000d02"),
        (idx(magic=b"\x01\x00\x08"), True, "magic number"),
        (idx(axes=0), True, "magic number"),
        (b"", True, "magic number"),
        (idx()[:7], True, "truncated in its header"),
        (
            idx()[:-1],
            True,
            "truncated: shape (2, 3) needs 6 bytes of data, but there are 5",
        ),
        (
            idx() + b"\0",
            True,
            "oversized: shape (2, 3) needs 6 bytes of data, but there are 7",
        ),
        (idx(shape=(2**32 - 1, 2**32 - 1), body=b"1"), True, "truncated"),
        (idx(body=b"\5" * 6), True, "checksum"),
        (b"plain text", False, "not a whole gzip file"),
        (idx_gz()[:-9], False, "not a whole gzip file"),
        (idx_gz()[:9] + b"\xff" * 8, False, "not a whole gzip file"),
    ],
)
def test_read_idx_refuses(tmp_path, raw, compress, message):
    path = written(tmp_path, raw, compress)
    with pytest.raises(ValueError) as error:
        data.read_idx(path, md5=hashlib.md5(idx()).hexdigest())
    assert message in str(error.value) and str(path) in str(error.value)


@given(st.binary(max_size=60))
def test_read_idx_of_anything(tmp_path_factory, raw):
    """Any bytes either are a small IDX file or are refused by name."""
    path = written(tmp_path_factory.getbasetemp(), raw)
    try:
        array = data.read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert array.size == len(raw) - 4 - 4 * raw[3]


def test_read_idx_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "nothing.gz")


# OMNIGLOT: a small file of the same keys and order


def omniglot_arrays():
    picture = np.zeros((28, 28), np.float32)
    picture[3, 20] = 0.5  # row 3, column 20
    # (784, 2), MATLAB's order
    columns = np.stack([picture.ravel(order="F"), np.ones(784, np.float32)], axis=1)
    target = np.zeros((50, 2), np.uint8)
    target[[7, 49], [0, 1]] = 1
    return {
        "data": columns,
        "target": target,
        "testdata": columns[:, :1],
        "testtarget": target[:, :1],
    }


def test_omniglot(tmp_path):
    savemat(tmp_path / "chardata.mat", omniglot_arrays())
    omniglot = mv.load("omniglot", path=tmp_path / "chardata.mat")
    assert omniglot.train_images.shape == (2, 784)
    assert omniglot.train_images.dtype == np.float32
    assert omniglot.train_images[0].reshape(28, 28)[3, 20] == 0.5
    assert omniglot.train_images[0].sum() == 0.5
    assert omniglot.train_labels.tolist() == [7, 49]
    assert omniglot.test_labels.tolist() == [7]
    assert omniglot.test_images.flags.c_contiguous


@pytest.mark.parametrize(
    "change, message",
    [
        ({"testdata": None}, "no array called testdata"),
        ({"data": np.zeros((28, 2))}, "data must be of shape (784, n); got (28, 2)"),
        ({"data": np.full((784, 2), 2.0)}, "grey values in [0, 1]"),
        ({"data": np.full((784, 2), np.nan)}, "grey values in [0, 1]"),
        ({"target": np.zeros((50, 3))}, "target must be of shape (50, 2); got (50, 3)"),
    ],
)
def test_omniglot_refuses(tmp_path, change, message):
    path = tmp_path / "chardata.mat"
    arrays = omniglot_arrays() | change
    savemat(path, {key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(ValueError) as error:
        mv.load("omniglot", path=path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_omniglot_file_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        mv.load("omniglot", path=tmp_path / "chardata.mat")
    (tmp_path / "chardata.mat").write_bytes(b"not a matrix" * 50)
    with pytest.raises(ValueError, match="not a readable .mat file"):
        mv.load("omniglot", path=tmp_path / "chardata.mat")


def test_omniglot_is_fetched_by_checksum_into_the_cache(tmp_path, monkeypatch):
    import pooch

    calls = []

    def retrieve(url, known_hash, fname, path):
        calls.append((url, known_hash, path))
        savemat(tmp_path / fname, omniglot_arrays())
        return str(tmp_path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(mv.load("omniglot").train_images) == 2
    ((url, known_hash, path),) = calls
    assert "yburda/iwae" in url and known_hash == "md5:21ecaf34373511aa7691cf2e0802aa3d"
    assert path == pooch.os_cache("minivae")


def test_without_pooch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"minivae\[download\]"):
        mv.load("omniglot")


def test_load_refuses():
    with pytest.raises(ValueError, match="mnist or omniglot; got 'cifar'"):
        mv.load("cifar")
    with pytest.raises(ValueError, match="ships with minivae"):
        mv.load("mnist", path="somewhere")


def test_binarize():
    grey = np.tile(np.array([0, 0.25, 1], np.float32), (40_000, 1))
    x = mv.binarize(grey, np.random.default_rng(0))
    assert x.dtype == np.float32 and set(np.unique(x)) == {0, 1}
    assert (x[:, 0] == 0).all() and (x[:, 2] == 1).all()
    assert abs(x[:, 1].mean() - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 40_000)
    np.testing.assert_array_equal(x, mv.binarize(grey, np.random.default_rng(0)))
    assert (x != mv.binarize(grey, np.random.default_rng(1))).any()


def test_a_black_pixel_is_never_one():
    """Not even where the uniform number is exactly zero."""

    class Zeros:
        def random(self, shape, dtype):
            return np.zeros(shape, dtype)

    assert mv.binarize(np.array([0, 1], np.float32), Zeros()).tolist() == [0, 1]
