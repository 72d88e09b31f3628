"""Image sets of the user's own, in every format; and that a run knows its images."""

import gzip
import json
import re
import shutil

import numpy as np
import own_data
import pytest
from PIL import Image

import minivae as mv
from minivae import cli, data
from minivae.data import fetch, image_shape_of
from minivae.plots import grids
from minivae.runs import load_images

SHAPE = ["--hidden-dims", "4", "--latent-dims", "2", "--k", "2", "--epochs", "1"]


def run(capsys, *argv):
    code = cli.main([str(word) for word in argv])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out, output.err


def png_shape(path):
    with Image.open(path) as picture:
        return picture.size


# Each of the formats, through the command line


@pytest.mark.parametrize(
    "write, options, image_shape, n",
    [
        (own_data.write_idx_set, [], (6, 9), (60, 20)),
        (own_data.write_pictures, ["--test-share", "0.2"], (7, 5), (240, 60)),
        (own_data.write_csv, ["--label-column", "digit"], (8, 8), (72, 8)),
    ],
)
def test_train_evaluate_sample(
    tmp_path, capsys, monkeypatch, write, options, image_shape, n
):
    monkeypatch.chdir(tmp_path)
    path, folder = write(tmp_path / "own.csv"), tmp_path / "run"
    train = ["train", "--data", "own.csv", *options, *SHAPE, "--seed", 3]
    code, out, err = run(capsys, *train, "--out", folder)
    assert code == 0, err
    config = json.loads((folder / "config.json").read_text())
    assert config["data"] == str(path) and config["images"] == n[0]
    assert tuple(config["image_shape"]) == image_shape
    assert mv.load_run(folder).model.x_dim == np.prod(image_shape)
    monkeypatch.chdir("/")  # the run's path is a whole one
    code, out, err = run(capsys, "evaluate", folder, "--k", 5)
    assert code == 0 and f"{n[1]} test images, k = 5" in out, err
    png, (height, width) = tmp_path / "samples.png", image_shape
    code, out, err = run(capsys, "sample", folder, "--n", 20, "--out", png)
    assert code == 0, err
    # two rows of ten pictures of this shape
    across, down = png_shape(png)
    assert across / down == pytest.approx(10 * width / (2 * height), rel=0.02)
    code, out, err = run(capsys, "sample", folder, "--between", 0, n[1] - 1)
    assert code == 0, err
    other = shutil.copytree(folder, tmp_path / "other")
    out = tmp_path / "comparison"
    argv = ["compare", folder, other, "--k", 5, "--images", 8, "--out", out]
    code, _, err = run(capsys, *argv)
    assert code == 0 and (out / "learning_curves.png").is_file(), err
    found = load_images(mv.load_run(folder))
    assert found.image_shape == image_shape and found.channels == 1
    assert len(np.unique(found.train_labels)) >= 3


# The formats


def same(dataset, images, labels=None):
    """Whether training and test images together are these bytes."""
    both = np.concatenate([dataset.train_images, dataset.test_images])
    rows = images.reshape(len(images), -1) / np.float32(255)
    order = np.lexsort(rows.T)
    np.testing.assert_allclose(both[np.lexsort(both.T)], rows[order], rtol=1e-6)
    if labels is not None:
        found = np.concatenate([dataset.train_labels, dataset.test_labels])
        np.testing.assert_array_equal(found[np.lexsort(both.T)], labels[order])


def test_npy(tmp_path):
    images, _ = own_data.made_up(30, 5, 4)
    np.save(tmp_path / "own.npy", images)
    own = mv.load(tmp_path / "own.npy")
    same(own, images)
    assert own.image_shape == (5, 4) and len(own.test_images) == 3
    assert own.name == str(tmp_path / "own.npy")
    again = mv.load(own.name, **own.options)
    np.testing.assert_array_equal(again.test_images, own.test_images)
    other = mv.load(own.name, seed=1)
    assert (other.test_images != own.test_images).any()
    held = mv.load(own.name, test_share=0.5, validation=5)
    assert [len(held.train_images), len(held.test_images)] == [10, 15]
    whole = mv.load(own.name, test_share=0.5).train_images
    np.testing.assert_array_equal(held.validation_images, whole[10:])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    images, labels = own_data.made_up(20, 4, 3)
    pack = gzip.compress if suffix else bytes
    path = tmp_path / f"some-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(own_data.idx_bytes(images)))
    own = mv.load(path, test_share=0.25)
    same(own, images)
    assert own.train_labels is None and own.image_shape == (4, 3)
    beside = tmp_path / "some-labels-idx1-ubyte"
    beside.write_bytes(own_data.idx_bytes(labels))
    same(mv.load(str(path), test_share=0.25), images, labels)
    np.testing.assert_array_equal(data.read_idx(str(beside)), labels)
    beside.write_bytes(own_data.idx_bytes(labels[:-1]))
    with pytest.raises(ValueError, match="20 images, but 19 labels"):
        mv.load(path)
    with pytest.raises(ValueError, match="must be grey values"):
        mv.load(beside)


def test_csv(tmp_path):
    path, rng = tmp_path / "own.csv", np.random.default_rng(0)
    pixels = rng.random((10, 6)).round(3)
    np.savetxt(path, pixels, delimiter=",", fmt="%.3f")
    own = mv.load(path)  # no header, no labels, no square
    assert own.image_shape == (1, 6) and own.train_labels is None
    same(own, 255 * pixels)
    words = np.array(["cat", "dog"] * 5)
    rows = [f"{word},{','.join(map(str, row))}" for word, row in zip(words, pixels)]
    path.write_text("\n".join(rows))
    same(mv.load(path, label_column=0), 255 * pixels, words)
    same(mv.load(path, label_column="-7"), 255 * pixels, words)
    with pytest.raises(ValueError, match="own.csv: not a table of numbers"):
        mv.load(path)
    with pytest.raises(ValueError, match="no column 'kind' among 7: 0, 1"):
        mv.load(path, label_column="kind")
    path.write_text("a,b,kind\n0,0.5,7\n1,0.25,3\n")
    with pytest.raises(ValueError, match="column 'kind' goes up to 7: say --label"):
        mv.load(path)
    assert mv.load(path, label_column="kind", test_share=0.5).options == {
        "label_column": "kind",
        "test_share": 0.5,
        "seed": 0,
    }
    path.write_text("a,b\n1,2,3\n")
    with pytest.raises(ValueError, match="own.csv"):
        mv.load(path)
    path.write_text("")
    with pytest.raises(ValueError, match="own.csv: no pixels"):
        mv.load(path)


def test_pictures(tmp_path):
    images, labels = own_data.made_up(12, 5, 4)
    folder = own_data.write_pictures(tmp_path / "own", 12, (5, 4))
    same(mv.load(folder, test_share=0.25), images, np.array(["a", "b", "c"])[labels])
    for old, new in (("a", "10"), ("b", "2"), ("c", "3")):
        (folder / old).rename(folder / new)
    same(mv.load(folder, test_share=0.25), images, np.array([10, 2, 3])[labels])
    for i, image in enumerate(images):  # without labels, and grey in three channels
        Image.fromarray(image).convert("RGB").save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(ValueError, match="own: neither pictures"):
        (tmp_path / "empty" / "own").mkdir(parents=True)
        mv.load(tmp_path / "empty" / "own")
    flat = mv.load(tmp_path, test_share=0.25)
    same(flat, images)
    assert flat.image_shape == (5, 4) and flat.train_labels is None
    Image.fromarray(images[0][:4]).save(tmp_path / "9z.png")
    with pytest.raises(ValueError, match=r"9z.png is 4 x 4 pixels, 0.png is 4 x 5"):
        mv.load(tmp_path)
    Image.fromarray(images[0].astype(np.uint16) * 257).save(tmp_path / "9z.png")
    with pytest.raises(ValueError, match=r"9z.png: not a picture .*8 bits a channel"):
        mv.load(tmp_path)
    (tmp_path / "9z.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"9z.png: not a picture to read"):
        mv.load(tmp_path)


def test_coloured_pictures_in_train_and_test(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3), np.uint8)
    for split, some in (("train", colours[:3]), ("test", colours[3:])):
        (tmp_path / split).mkdir()
        for i, image in enumerate(some):
            Image.fromarray(image).save(tmp_path / split / f"{i}.png")
    own = mv.load(tmp_path)
    assert own.image_shape == (3, 5, 3) and own.channels == 3
    rows = colours.reshape(4, -1) / np.float32(255)
    np.testing.assert_array_equal(own.train_images, rows[:3])
    np.testing.assert_array_equal(own.test_images, rows[3:])
    with pytest.raises(ValueError, match="test images of its own: leave test_share"):
        mv.load(tmp_path, test_share=0.5)


def test_pictures_beside_subfolders_of_pictures(tmp_path):
    own_data.write_pictures(tmp_path, 3)
    Image.new("L", (5, 7)).save(tmp_path / "stray.png")
    with pytest.raises(ValueError, match="what is their label"):
        mv.load(tmp_path)


@pytest.mark.parametrize(
    "axes, shape",
    [
        ((784,), (28, 28)),
        ((10,), (1, 10)),
        ((3, 4), (3, 4)),
        ((3, 4, 1), (3, 4)),
        ((3, 4, 3), (3, 4, 3)),
        ((2, 3, 4), (6, 4)),
        ((2, 2, 3, 4), (12, 4)),
    ],
)
def test_image_shapes(axes, shape):
    assert image_shape_of(axes) == shape and np.prod(shape) == np.prod(axes)


def test_channels_that_stand_first(tmp_path):
    images, _ = own_data.made_up(4, 5, 6, 3)
    np.savez(tmp_path / "a.npz", train_images=images, test_images=images)
    first = np.moveaxis(images, 3, 1)
    np.savez(tmp_path / "b.npz", train_images=first, test_images=first)
    a, b = (mv.load(tmp_path / f"{name}.npz") for name in "ab")
    assert a.image_shape == b.image_shape == (5, 6, 3)
    np.testing.assert_array_equal(a.train_images, b.train_images)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"test_share": 0.0}, "test_share must leave one of 30 images or more"),
        ({"test_share": 1.0}, "test_share must leave"),
        ({"test_share": 0.01}, "test_share must leave"),
        ({"test_share": "half"}, "test_share must be a real number; got 'half'"),
        ({"label_column": 0}, "a label_column is for a .csv only"),
        ({"validation": 27}, "validation must leave an image to train on: at most 26"),
        ({"validation": -1}, "validation must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_load_refuses(tmp_path, settings, message):
    np.save(tmp_path / "own.npy", own_data.made_up(30, 2, 2)[0])
    with pytest.raises((ValueError, TypeError), match=message):
        mv.load(tmp_path / "own.npy", **settings)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.full((2, 4), 255.0), r"must lie in \[0, 1\]; got 255 to 255: divide by"),
        (np.eye(4, dtype=np.uint8), "holds uint8 up to 1: save bytes"),
        (np.full((2, 4), None), "damaged, or not an .npy of images"),
        (np.zeros(4), r"must be grey values \(n, D\)"),
        (np.zeros((2, 4), complex), "must be grey values"),
    ],
)
def test_npy_refuses(tmp_path, array, message):
    np.save(tmp_path / "own.npy", array)
    with pytest.raises(ValueError, match=message):
        mv.load(tmp_path / "own.npy")
    raw = (tmp_path / "own.npy").read_bytes()
    (tmp_path / "own.npy").write_bytes(raw[:-1])
    with pytest.raises(ValueError, match="own.npy"):
        mv.load(tmp_path / "own.npy")


# Image sets that are fetched


def test_fashion_mnist_is_fetched_by_its_checksums(tmp_path, monkeypatch):
    import pooch

    there, calls = own_data.write_idx_set(tmp_path / "there", (28, 28), (6, 3)), {}

    def retrieve(url, known_hash, fname, path):
        calls[url] = known_hash
        path.mkdir(parents=True, exist_ok=True)
        (raw,) = (file.read_bytes() for file in there.glob(f"{fname[:-3]}*"))
        (path / fname).write_bytes(raw)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    own = mv.load("fashion-mnist")
    assert own.train_images.shape == (6, 784) and own.test_labels.tolist() == [0, 1, 2]
    url, files = fetch.FASHION_MNIST
    assert calls == {f"{url}/{name}": f"md5:{md5}" for name, md5 in files.items()}
    assert "zalandoresearch/fashion-mnist" in url and len(files) == 4


# A run knows its images


def quick(folder, images, model=None, **settings):
    model = model or mv.VAE(images.shape[1], (2,), ((3,),), rng=0)
    settings = {"k": 2, "epochs": 1, "batch": 10, "progress": False} | settings
    return mv.train(model, images, folder=folder, **settings)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.npz"
    images, _ = own_data.made_up(40, 4, 3)
    np.savez(path, train_images=images[:30], test_images=images[30:])
    return mv.load(path)


def test_a_run_in_python_is_not_evaluated_on_mnist(tmp_path, capsys, own):
    folder = tmp_path / "run"
    quick(folder, own.train_images)
    for command in (["evaluate", folder], ["sample", folder, "--between", 0, 1]):
        code, _, err = run(capsys, *command)
        assert code == 2 and len(err.strip().splitlines()) == 1
        assert "30 images" in err and "an array that has no name" in err
        assert "cannot be had again" in err and "--data" in err
    code, out, _ = run(capsys, "evaluate", folder, "--data", own.name, "--k", 5)
    assert code == 0 and "10 test images" in out
    code, _, err = run(capsys, "evaluate", folder, "--data", "mnist")
    assert code == 2 and re.search(
        r"holds a run on 30 images .*array that has no name \(digest \w{8}\); these are"
        r" 60,000 images of 28 x 28 pixels from mnist \(digest \w{8}\)",
        err,
    )


def test_a_run_is_resumed_on_its_own_images_only(tmp_path, own):
    quick(tmp_path / "run", own.train_images)
    with pytest.raises(ValueError, match="holds a run on 30 images.*these are 30"):
        quick(tmp_path / "run", own.train_images[::-1], epochs=2)
    # the same ones by a name, as another type
    images = own.train_images.astype(np.float64)
    found = quick(tmp_path / "run", images, epochs=2, data=own).config
    assert found["data"] == own.name
    assert load_images(mv.load_run(tmp_path / "run")).name == own.name


def test_images_that_are_gone_or_changed(tmp_path, capsys, own):
    folder, path = tmp_path / "run", tmp_path / "own.npz"
    quick(folder, own.train_images, data=str(path))
    with np.load(path) as arrays:
        changed = dict(arrays)
    moved = path.rename(tmp_path / "moved.npz")
    code, _, err = run(capsys, "evaluate", folder)
    assert (
        code == 2 and "own.npz: there is no such file" in err and "--data PATH" in err
    )
    assert run(capsys, "evaluate", folder, "--data", moved, "--k", 5)[0] == 0
    changed["train_images"][0, 0] ^= 1
    np.savez(path, **changed)
    code, _, err = run(capsys, "evaluate", folder)
    assert code == 2 and "holds a run on 30 images" in err


@pytest.mark.filterwarnings("always")
def test_an_older_run_says_that_its_images_are_unknown(tmp_path, capsys, own):
    folder = tmp_path / "run"
    quick(folder, own.train_images)
    config = json.loads((folder / "config.json").read_text())
    unnamed = ("digest", "image_shape", "data_options", "validation_images")
    new = {key: config.pop(key) for key in unnamed}
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = run(capsys, "evaluate", folder)
    assert code == 2 and "trained on unknown images" in err
    code, _, err = run(capsys, "evaluate", folder, "--data", own.name, "--k", 5)
    assert code == 0 and "warning" in err and "unknown images" in err
    code, _, err = run(capsys, "evaluate", folder, "--data", "mnist", "--k", 5)
    assert code == 2 and "a model of 12 pixels" in err
    quick(folder, own.train_images, epochs=2)  # and is resumed
    config = json.loads((folder / "config.json").read_text())
    assert config["digest"] == new["digest"]


def test_validation_images_are_held_back(tmp_path, capsys, own):
    folder = tmp_path / "run"
    train = ["train", "--data", own.name, "--validation", 6, *SHAPE, "--out", folder]
    code, out, err = run(capsys, *train)
    assert code == 0 and "on validation images" in out and "--split validation" in out
    history = mv.load_run(folder).history
    assert "validation_bound" in history and "test_bound" not in history
    assert mv.load_run(folder).config["images"] == 24
    argv = ["evaluate", folder, "--k", 5, "--split"]
    for split, n in (("validation", 6), ("train", 24), ("test", 10)):
        code, out, err = run(capsys, *argv, split)
        assert code == 0 and f"{n} {split} images" in out, err
    assert (folder / "evaluation_6_validation_images_k_5.json").is_file()
    quick(tmp_path / "other", own.train_images, data=own)
    code, _, err = run(capsys, "evaluate", tmp_path / "other", "--split", "validation")
    assert code == 2 and "held back no images" in err


# Grey images, and what is no likelihood of them


def test_grey_models_draw_grey_images(tmp_path, monkeypatch, own):
    seen = []
    monkeypatch.setattr(grids, "reconstructions", lambda m, x, *_, **__: seen.append(x))
    for likelihood in ("gaussian", "bernoulli-grey", "bernoulli"):
        model = mv.VAE(12, (2,), ((3,),), likelihood, rng=0)
        mv.plots.draw_model(model, own.test_images, tmp_path, own.image_shape)
    np.testing.assert_array_equal(seen[0], own.test_images)
    np.testing.assert_array_equal(seen[1], own.test_images)
    assert set(np.unique(seen[2])) == {0, 1}


@pytest.mark.parametrize(
    "likelihood, name",
    [("gaussian", r"NLL \(density\)"), ("bernoulli-grey", "pseudo-NLL")],
)
def test_what_is_no_likelihood_is_named(tmp_path, capsys, own, likelihood, name):
    folder = tmp_path / "run"
    argv = ["train", "--data", own.name, *SHAPE, "--likelihood", likelihood]
    assert run(capsys, *argv, "--out", folder)[0] == 0
    code, out, _ = run(capsys, "evaluate", folder, "--k", 5)
    assert code == 0 and re.search(rf"^{name} +-?\d", out, re.M)
    assert not re.search(r"^NLL  ", out, re.M)
    (path,) = folder.glob("evaluation*.json")
    assert json.loads(path.read_text())["nll_is"] in out


@pytest.mark.parametrize("label_column", [None, "label"])
def test_a_csv_line_with_one_field_too_many_is_refused(tmp_path, label_column):
    path = tmp_path / "a.csv"
    lines = ["label,a,b,c", "0,0.1,0.2,0.3", "0,0.1,0.5,0.2,0.3", "1,0,0,0"]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="number of columns changed from 4 to 5"):
        mv.load(path, label_column=label_column)


def test_line_ends_of_a_csv(tmp_path):
    """Old or mixed ones, and a name that is longer than Python's reader bears."""
    path = tmp_path / "a.csv"
    for text in ("a,b\r0,1\r1,0", "a,b\r\n0,1\n1,0\r", "0,1\r\n1,0"):
        path.write_bytes(text.encode())
        own = mv.load(path, test_share=0.5)
        assert len(own.train_images) == len(own.test_images) == 1
    path.write_text("a" * 200_000 + ",b\n0,1")
    with pytest.raises(ValueError, match="a.csv: not a table of numbers .field larger"):
        mv.load(path)


@pytest.mark.parametrize("suffix", [".NPY", ".Csv"])
def test_a_suffix_in_capitals(tmp_path, suffix):
    path, images = tmp_path / f"own{suffix}", own_data.made_up(12, 3, 4)[0] / 255
    with path.open("wb") as file:
        if suffix == ".NPY":
            np.save(file, images.astype(np.float32))
        else:
            np.savetxt(file, images.reshape(12, 12), "%.4g", delimiter=",")
    assert mv.load(path).train_images.shape[1] == 12


def test_a_file_of_another_kind_says_what_is_read(tmp_path):
    path = tmp_path / "own.pkl"
    path.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(
        ValueError, match=r"own.pkl: .* IDX .* \.npy, \.npz, \.mat, \.csv"
    ):
        mv.load(path)
