"""The image sets, the IDX reader's refusals, and binarisation."""

import gzip
import hashlib
import io
import os
import shlex
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

import minivae as mv
from minivae import data
from minivae.data import omniglot as omniglot_file


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
            "oversized: shape (2, 3) needs 6 bytes of data, but there are more",
        ),
        (idx(shape=(2**32 - 1, 2**32 - 1), body=b"1"), True, "more than 1,073,741,824"),
        (idx(body=b"\5" * 6), True, "checksum"),
        (b"plain text", False, "magic number 0x706c6169"),
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


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The path of a small chardata.mat, taken for the published one."""
    path = tmp_path / "char data.mat"
    savemat(path, omniglot_arrays())
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(omniglot_file, "MD5", md5)
    return path


def check_omniglot(omniglot):
    assert omniglot.train_images.shape == (2, 784)
    assert omniglot.train_images.dtype == np.float32
    assert omniglot.train_images[0].reshape(28, 28)[3, 20] == 0.5
    assert omniglot.train_images[0].sum() == 0.5
    assert omniglot.train_labels.tolist() == [7, 49]
    assert omniglot.test_labels.tolist() == [7]
    assert omniglot.test_images.flags.c_contiguous


def test_omniglot(published):
    check_omniglot(mv.load(published))


def test_another_mat_is_not_parsed_but_can_be_converted(published, monkeypatch):
    """A single wrong byte crashes SciPy's reader: it never sees such a file. The line
    that the error gives makes an .npz of the same images.
    """
    raw = published.read_bytes()
    other = published.with_name("other one.mat")
    other.write_bytes(raw + b" ")
    with monkeypatch.context() as patch:
        patch.setattr("scipy.io.loadmat", lambda file: pytest.fail("it was parsed"))
        with pytest.raises(ValueError, match="not the published chardata.mat") as error:
            mv.load(other)
    assert len(str(error.value).splitlines()) == 1
    python, *arguments = shlex.split(str(error.value).split("instead: ")[1])
    assert python == "python" and arguments[2] == str(other)
    arguments[2] = str(published)  # SciPy would stumble over the byte
    subprocess.run([sys.executable, *arguments], check=True)
    check_omniglot(mv.load(other.with_suffix(".npz")))


def test_omniglot_file_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        mv.load(tmp_path / "chardata.mat")
    with (tmp_path / "chardata.mat").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="chardata.mat: 1,099,511,627,776 bytes"):
        mv.load(tmp_path / "chardata.mat")


# Image sets of the user's own


def test_npz(tmp_path):
    path, grey = tmp_path / "own.npz", np.random.default_rng(0).random((3, 4))
    np.savez(path, train_images=grey, test_images=grey[:1])
    own = mv.load(path)
    np.testing.assert_array_equal(own.train_images, grey.astype(np.float32))
    assert own.test_images.shape == (1, 4) and own.test_images.dtype == np.float32
    assert own.train_labels is None and own.test_labels is None
    pictures = np.array([[[0, 255], [51, 102]]], np.uint8)
    bits = np.array([[True, False, False, True]])
    np.savez_compressed(path, train_images=pictures, test_images=bits, test_labels=[3])
    own = mv.load(str(path))
    np.testing.assert_array_equal(own.train_images, np.float32([[0, 1, 0.2, 0.4]]))
    np.testing.assert_array_equal(own.test_images, [[1, 0, 0, 1]])
    assert own.train_labels is None and own.test_labels.tolist() == [3]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_images": None}, "no array called train_images"),
        ({"train_images": np.zeros(784)}, "train_images must be grey values (n, D),"),
        ({"train_images": np.zeros((0, 4))}, "train_images must be grey values"),
        ({"train_images": np.full((2, 4), 2.0)}, "must lie in [0, 1]; got 2 to 2"),
        ({"train_images": np.full((2, 4), np.nan)}, "must lie in [0, 1]; got nan"),
        ({"train_images": np.full((2, 4), "a")}, "must be grey values"),
        ({"train_images": np.full((2, 4), 1j)}, "must be grey values"),
        ({"train_images": np.full((2, 4), None)}, "not an array of plain numbers"),
        ({"train_images": np.eye(4, dtype=np.uint8)}, "holds uint8 up to 1: save"),
        ({"train_images": np.eye(4, dtype=np.uint16)}, "holds uint16 up to 1"),
        (
            {"train_images": np.zeros((2, 5))},
            "1 x 5 pixels to train on, of 2 x 2",
        ),
        ({"train_labels": np.zeros(3, int)}, "train_images: 2 images, but 3 labels"),
        (
            {"train_labels": np.zeros(2)},
            "train_labels must be whole numbers or words",
        ),
        (
            {"train_labels": np.zeros((2, 1), int)},
            "must be whole numbers or words (n,)",
        ),
    ],
)
def test_npz_refuses(tmp_path, change, message):
    arrays = {"train_images": np.full((2, 4), 0.5), "test_images": np.zeros((1, 4))}
    arrays = {key: a for key, a in (arrays | change).items() if a is not None}
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as error:
        mv.load(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_an_npz_is_not_unpacked_to_see_that_it_is_too_large(tmp_path):
    """A kilobyte that names 64 GB; and 2 GB of zeros in an array that nobody needs."""
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**33,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(ValueError, match="train_images would take 68,719,476,736"):
        mv.load(path)
    images = np.zeros((1, 4))
    np.savez(path, train_images=images, test_images=images)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("unneeded.npy", "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(2**20))
    tracemalloc.start()
    mv.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_a_gzipped_idx_is_not_unpacked_beyond_its_shape(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx() + bytes(2**24), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="oversized"):
        mv.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.csv", "a-idx3", "chardata.mat"])
def test_only_regular_files_are_read(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a regular file"):
        mv.load(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="not a regular file"):
        mv.load(path)


def test_omniglot_is_fetched_by_checksum_into_the_cache(published, monkeypatch):
    import pooch

    calls = []

    def retrieve(url, known_hash, fname, path):
        calls.append((url, known_hash, path))
        path.mkdir(parents=True)
        (path / fname).write_bytes(published.read_bytes())

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda name: published.parent / name)
    assert len(mv.load("omniglot").train_images) == 2
    ((url, known_hash, path),) = calls
    assert "yburda/iwae" in url and known_hash == "md5:21ecaf34373511aa7691cf2e0802aa3d"
    assert path == published.parent / "minivae" / "omniglot"


def test_without_pooch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"minivae\[download\]"):
        mv.load("omniglot")


def test_load_refuses():
    with pytest.raises(FileNotFoundError, match="cifar: .* names are mnist, omniglot"):
        mv.load("cifar")
    with pytest.raises(ValueError, match="mnist has test images of its own"):
        mv.load("mnist", test_share=0.5)


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

    class Zeros(np.random.Generator):
        def random(self, shape, dtype):
            return np.zeros(shape, dtype)

    rng = Zeros(np.random.PCG64())
    assert mv.binarize(np.array([0, 1], np.float32), rng).tolist() == [0, 1]
