"""A run that starts from another's parameters: the objective is switched."""

import json
import re
import shutil

import numpy as np
import pytest

import minivae as mv
from minivae import cli, training

RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 9))


def fresh(seed=0):
    return mv.VAE(9, (2,), ((3,),), rng=np.random.default_rng(seed))


def train(model, bound, folder=None, **settings):
    settings = {"k": 2, "batch": 20, "progress": False, "epochs": 2} | settings
    return mv.train(model, IMAGES, bound, folder=folder, **settings)


@pytest.fixture
def elbo(tmp_path):
    return train(fresh(), "elbo", tmp_path / "elbo")


def test_the_second_run_starts_where_the_first_ended(elbo, tmp_path):
    start = elbo.model.params.copy()
    model = mv.load_run(elbo.folder).model
    run = train(model, "iwae", tmp_path / "iwae", epochs=1)
    assert run.config["origin"] == {
        "run": str(elbo.folder), "epoch": 2, "bound": "elbo", "k": 2,
        "estimator": "reparam", "parameters": start.digest(),
    }  # fmt: skip
    assert run.config == mv.load_run(run.folder).config
    # Adam is fresh: the same as by hand
    model = fresh(1)
    model.params.vector[...] = start.vector
    by_hand = train(model, "iwae", epochs=1)
    np.testing.assert_array_equal(by_hand.model.params.vector, run.model.params.vector)
    assert by_hand.config["origin"] is None


def test_a_digest_is_of_the_values():
    params = fresh().params
    before = params.digest()
    assert params.copy().digest() == before
    params.vector[3] += 1
    assert params.digest() != before


def test_it_resumes_whatever_became_of_the_origin(elbo, tmp_path):
    """The origin was trained on; then it has gone."""
    folder, whole = tmp_path / "iwae", tmp_path / "whole"
    unbroken = train(mv.load_run(elbo.folder).model, "iwae", whole, epochs=4)
    train(mv.load_run(elbo.folder).model, "iwae", folder, epochs=2)
    train(fresh(), "elbo", elbo.folder, epochs=3)
    train(mv.load_run(elbo.folder).model, "iwae", folder, epochs=3)
    shutil.rmtree(elbo.folder)
    resumed = train(mv.load_run(folder).model, "iwae", folder, epochs=4)
    np.testing.assert_array_equal(
        resumed.model.params.vector, unbroken.model.params.vector
    )
    assert resumed.config["origin"] == unbroken.config["origin"]
    assert mv.load_run(folder).config["origin"]["epoch"] == 2


def test_another_origin_is_refused(elbo, tmp_path):
    folder, other = tmp_path / "iwae", tmp_path / "other"
    train(mv.load_run(elbo.folder).model, "iwae", folder)
    train(fresh(5), "elbo", other)
    for model in (fresh(), mv.load_run(other).model):
        with pytest.raises(ValueError, match=r"other settings \(origin was .*elbo'"):
            train(model, "iwae", folder)
    with pytest.raises(ValueError, match=r"origin was None, is .*other'"):
        train(mv.load_run(other).model, "elbo", elbo.folder)
    # the same parameters by another path are the same origin
    shutil.move(elbo.folder, tmp_path / "moved")
    train(mv.load_run(tmp_path / "moved").model, "iwae", folder, epochs=3)


def test_an_averaged_origin_says_so(tmp_path):
    run = train(fresh(), "elbo", tmp_path / "elbo", average=0.5)
    second = train(run.averaged(), "iwae")
    assert second.config["origin"]["averaged"] is True
    assert second.config["origin"]["parameters"] == run.average.digest()


def test_the_origin_is_the_last_run(elbo):
    """A model that was trained twice comes from the second run, which had no folder;
    one that failed comes from its last epoch.
    """
    second = train(elbo.model, "iwae", epochs=1)
    assert second.config["origin"]["bound"] == "elbo"
    assert second.model.origin["run"] is None
    assert second.model.origin["bound"] == "iwae"
    with pytest.raises(training.NonFiniteError):
        train(elbo.model, "vr", alpha=0.5, learning_rate=1e30)
    assert elbo.model.origin["bound"] == "vr" and elbo.model.origin["epoch"] == 0


def test_curves_end_to_end(elbo, tmp_path):
    second = train(mv.load_run(elbo.folder).model, "iwae", tmp_path / "b", epochs=3)
    train(fresh(), "elbo", elbo.folder, epochs=4)  # two epochs that b knows nothing of
    third = train(mv.load_run(second.folder).model, "elbo", epochs=1)
    curves = third.lineage()
    assert list(curves) == [
        f"{elbo.folder}: elbo, k = 2", f"{second.folder}: iwae, k = 2", "elbo, k = 2",
    ]  # fmt: skip
    assert [c["epoch"] for c in curves.values()] == [[1, 2], [3, 4, 5], [6]]
    first = mv.load_run(elbo.folder)
    assert curves[f"{elbo.folder}: elbo, k = 2"]["bound"] == first.history["bound"][:2]
    assert second.history["epoch"] == [1, 2, 3]
    shutil.rmtree(elbo.folder)
    train(fresh(), "iwae", elbo.folder, epochs=2)  # a run that it did not start from
    assert list(third.lineage()) == [f"{second.folder}: iwae, k = 2", "elbo, k = 2"]
    shutil.rmtree(second.folder)
    assert list(third.lineage()) == ["elbo, k = 2"]


# The command line


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, images in (("images", IMAGES), ("other", 1 - IMAGES)):
        images = images.astype(np.float32)
        np.savez(f"{name}.npz", train_images=images, test_images=images[:10])

    def call(line, data="--data images.npz"):
        base = f"train {data} --epochs 1 --k 2".split()
        code = cli.main(base + line.split())
        return code, capsys.readouterr().err

    assert call("--bound elbo --hidden-dims 3 --latent-dims 2 --out a")[0] == 0
    return call


def test_init_from(command, tmp_path):
    code, err = command("--init-from a --out b")
    assert code == 0 and "warning" not in err
    config = json.loads((tmp_path / "b/config.json").read_text())
    assert config["origin"]["run"] == "a" and config["bound"] == "iwae"
    assert config["model"]["latent_dims"] == [2]
    shutil.rmtree(tmp_path / "a")
    assert command("--init-from a --out b --epochs 2")[0] == 0
    assert mv.load_run("b").history["epoch"] == [1, 2]
    code, err = command("--out b --epochs 3 --hidden-dims 3 --latent-dims 2")
    assert code == 2 and "origin was {'run': 'a'" in err and "is None" in err


@pytest.mark.filterwarnings("default:a was trained on")
def test_init_from_a_run_on_other_images(command):
    code, err = command("--init-from a --out b --data other.npz")
    assert code == 0 and re.search("a was trained on 40 images .*images.npz", err)
    assert mv.load_run("b").config["data"].endswith("other.npz")


def test_init_from_takes_the_origins_images(command):
    assert command("--init-from a --out b", data="")[0] == 0
    assert mv.load_run("b").config["digest"] == mv.load_run("a").config["digest"]
    code, err = command("--init-from a --out c --validation 5", data="")
    assert code == 2 and "--validation needs --data" in err


def test_init_from_another_architecture(command):
    for wrong, words in {
        "--latent-dims 5": "latent_dims is (2,) there, (5,) here",
        "--layers 1": "hidden_dims is ((3,),) there, ((200, 200),) here",
        "--dtype float64": "dtype is float32 there, float64 here",
        "--likelihood gaussian": "likelihood is bernoulli there, gaussian here",
    }.items():
        code, err = command(f"--init-from a --out b {wrong}")
        assert code == 2 and words in err
    assert command("--init-from a --out b --latent-dims 2 --dtype float32")[0] == 0
    code, err = command("--init-from nowhere --out c")
    assert code == 2 and "nowhere: no run with a checkpoint is here" in err
