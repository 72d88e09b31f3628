"""The command line, called as a function, on small data in MNIST's place."""

import _thread
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import standin

import minivae as mv
from minivae import cli, data, gradcheck, training
from minivae.check import Check
from minivae.commands import COMMANDS, train
from minivae.data import Dataset
from minivae.experiments import demo


@pytest.fixture
def small(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.random((120, 784), np.float32) ** 4, np.zeros(120, np.uint8)
    few = Dataset(images, labels, images[:60], labels[:60], name="mnist")
    for module in (data, demo):
        monkeypatch.setattr(module, "load", lambda name, **options: few)


SHAPE = ["--hidden-dims", "5", "--latent-dims", "2"]
TRAIN = ["train", "--epochs", "2", "--k", "2", *SHAPE, "--out"]


def run(capsys, *argv):
    code = cli.main([str(word) for word in argv])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out, output.err


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_on_a_gpu(small, tmp_path, capsys, monkeypatch):
    """The same commands with --device cuda; a run from there resumes on a CPU."""
    standin.install(monkeypatch)
    folder = tmp_path / "run"
    code, out, _ = run(capsys, *TRAIN, folder, "--device", "cuda")
    assert code == 0 and "epoch 2: bound" in out
    assert is_png(folder / "figures" / "manifold.png")
    assert json.loads((folder / "config.json").read_text())["model"]["device"] == "cuda"
    nll = []
    for device in ("cuda", "cpu"):
        argv = "evaluate", folder, "--k", 20, "--images", 30, "--device", device
        code, out, _ = run(capsys, *argv)
        assert code == 0
        nll.append(float(re.search(r"NLL +(\d+\.\d+)", out)[1]))
    assert nll[0] == pytest.approx(nll[1], abs=0.002)
    code, out, _ = run(capsys, *TRAIN, folder, "--epochs", 3)
    assert code == 0 and "epoch 3: bound" in out
    code, out, _ = run(capsys, "sample", folder)
    assert code == 0


def test_train_evaluate_sample(small, tmp_path, capsys):
    folder = tmp_path / "run"
    code, out, _ = run(capsys, *TRAIN, folder)
    assert code == 0 and "epoch 2: bound" in out and f"minivae evaluate {folder}" in out
    figures = folder / "figures"
    for name in ("learning_curves", "samples", "reconstructions", "manifold"):
        assert is_png(figures / f"{name}.png")

    code, out, _ = run(capsys, "evaluate", folder, "--k", 20, "--images", 30)
    assert code == 0 and "30 test images, k = 20" in out
    assert re.search(r"NLL +\d+\.\d+ nats, \+- \d", out)
    summary = json.loads((folder / "evaluation_30_images_k_20.json").read_text())
    assert summary["k"] == 20 and summary["images"] == 30
    assert f"{summary['nll']:.3f}" in out
    for name in ("active_units", "bound_against_k", "normalised_weights"):
        assert is_png(figures / f"{name}.png")

    png = tmp_path / "some.png"
    code, out, _ = run(capsys, "sample", folder, "--n", 7, "--out", png)
    assert code == 0 and is_png(png)


def test_two_layers(small, tmp_path, capsys):
    folder = tmp_path / "deep"
    shape = ["--hidden-dims", "5/4,3", "--latent-dims", "3,2"]
    code, _, _ = run(capsys, "train", "--epochs", 1, "--k", 2, *shape, "--out", folder)
    assert code == 0 and mv.load_run(folder).model.hidden_dims == ((5,), (4, 3))
    code, out, _ = run(capsys, "evaluate", folder, "--k", 10)
    assert code == 0 and re.search(r"active units +\d \+ \d of 3 \+ 2", out)
    assert run(capsys, "sample", folder)[0] == 0


def test_a_rerun_resumes(small, tmp_path, capsys):
    run(capsys, *TRAIN, tmp_path)
    code, out, _ = run(capsys, *TRAIN, tmp_path, "--epochs", 3)
    assert code == 0 and "epoch 3: bound" in out
    assert mv.load_run(tmp_path).history["epoch"] == [1, 2, 3]


def test_ctrl_c_says_how_to_resume(small, tmp_path, capsys, monkeypatch):
    def stopped(*args, **settings):
        raise KeyboardInterrupt("stopped in epoch 3 after 8 of 9; 2 epochs are kept")

    monkeypatch.setattr(train, "train", stopped)
    code, _, err = run(capsys, *TRAIN, tmp_path)
    assert code == 130 and "2 epochs are kept" in err
    assert "The same command again resumes there." in err


def test_a_failed_run_is_1(small, tmp_path, capsys):
    diverging = "train", "--learning-rate", "1e30", "--k", 2
    code, _, err = run(capsys, *diverging, "--out", tmp_path)
    assert code == 1
    assert re.search(r"the run failed: epoch \d+, step \d+: NaN or infinity in", err)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["evaluate", "nowhere"], "nowhere: no run with a checkpoint is here"),
        (["sample", "nowhere"], "no run with a checkpoint"),
        (
            ["train", "--preset", "short", "--epochs", "3", "--out", "x"],
            "--preset short fixes the epochs",
        ),
        (
            ["train", "--latent-dims", "2,3", "--out", "x"],
            "say --latent-dims 50,50 --hidden-dims 200,200/200,200, or the like",
        ),
        (
            ["train", "--learning-rate", "-1", "--out", "x"],
            "learning_rate and epsilon must be positive",
        ),
        (["train", "--threads", "10000", "--out", "x"], "--threads must be at most"),
        (["train", "--seed", "-1", "--out", "x"], "a whole number from 0 on; got '-1'"),
        (["train", "--layers", "3", "--out", "x"], "say --latent-dims 50,50,50 --hidd"),
        (["train", "--lr", "1", "--out", "x"], "did you mean --learning-rate?"),
        (["train", "--batch-size", "9", "--out", "x"], "did you mean --batch?"),
        (["train", "--k", "9" * 11, "--out", "x"], "GB: lower k"),
        (["train", "--data", "", "--out", "x"], "--data: a name or a path; got ''"),
    ],
)
def test_wrong_use_is_2(small, argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *argv)
    assert code == 2 and words in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["train"],
        ["train", "--k", "0", "--out", "x"],
        ["train", "--k", "many", "--out", "x"],
        ["train", "--bound", "elbow", "--out", "x"],
        ["train", "--device", "tpu", "--out", "x"],
        ["train", "--out", ""],
        ["evaluate", ""],
        ["train", "--hidden-dims", "3,", "--out", "x"],
        ["evaluate"],
    ],
)
def test_argparse_refuses_with_2(argv, capsys):
    code, _, err = run(capsys, *argv)
    command = " ".join(["minivae", *argv[:1]]) if argv[:1] != ["fly"] else "minivae"
    assert code == 2 and err.endswith(f"(see {command} --help)\n")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_gives_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example:\n  minivae {command}" in capsys.readouterr().out


def test_gradcheck(capsys, monkeypatch):
    # tests/test_gradients.py runs those
    monkeypatch.setattr(gradcheck, "check_gradients", lambda *args, **options: [])
    code, out, _ = run(capsys, "gradcheck", "--kernels", "numpy")
    assert code == 0 and "; 0 failed" in out and "tanh: a" in out
    wrong = Check("tanh: a", 1.0, 2.0, 0.5)
    monkeypatch.setattr(gradcheck, "check_pieces", lambda kernels: [wrong])
    code, out, _ = run(capsys, "gradcheck")
    assert code == 1 and "FAILED" in out and "2 failed" in out


def test_demo(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "IMAGES", 5)
    code, out, _ = run(capsys, "demo", "--out", tmp_path)
    assert code == 0 and "| IWAE (k = 5) |" in out and "The IWAE's NLL is" in out
    assert (tmp_path / "table.md").read_text().strip() in out
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_the_runs_image_set_is_remembered(small, tmp_path, capsys, monkeypatch):
    """A run on OMNIGLOT is evaluated on OMNIGLOT."""
    asked, load = [], data.load

    def spy(name, **options):
        asked.append(name)
        return replace(load(name), name=name)

    monkeypatch.setattr(data, "load", spy)
    run(capsys, *TRAIN, tmp_path / "run", "--data", "omniglot")
    run(capsys, "evaluate", tmp_path / "run", "--k", 5, "--images", 2)
    assert asked == ["omniglot", "omniglot"]


def test_seeds_have_files_of_their_own(small, tmp_path, capsys):
    run(capsys, *TRAIN, tmp_path)
    for seed in (0, 1):
        run(capsys, "evaluate", tmp_path, "--k", 5, "--images", 3, "--seed", seed)
    names = sorted(path.name for path in tmp_path.glob("evaluation*"))
    assert names == [
        "evaluation_3_images_k_5.json",
        "evaluation_3_images_k_5.npz",
        "evaluation_3_images_k_5_seed_1.json",
        "evaluation_3_images_k_5_seed_1.npz",
    ]


def test_one_image_has_no_standard_error(small, tmp_path, capsys):
    run(capsys, *TRAIN, tmp_path)
    code, out, _ = run(capsys, "evaluate", tmp_path, "--k", 5, "--images", 1)
    assert code == 0 and "nan" not in out
    summary = json.loads((tmp_path / "evaluation_1_images_k_5.json").read_text())
    assert summary["nll_se"] is None


def test_interpolation(small, tmp_path, capsys):
    run(capsys, *TRAIN, tmp_path)
    code, _, _ = run(capsys, "sample", tmp_path, "--between", 3, 5)
    assert code == 0 and is_png(tmp_path / "figures/interpolation.png")
    code, _, err = run(capsys, "sample", tmp_path, "--between", 3, 5000)
    assert code == 2 and "test images 0 to 59; got 5000" in err


def test_out_must_be_a_png(small, tmp_path, capsys):
    run(capsys, *TRAIN, tmp_path)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    out = tmp_path / "checkpoint.npz"
    code, _, err = run(capsys, "sample", tmp_path, "--out", out)
    assert code == 2 and "--out must end in .png" in err
    assert out.read_bytes() == before


def test_sizes_may_have_spaces_and_layers_may_be_three(small, tmp_path, capsys):
    shape = ["--latent-dims", "3, 2, 2", "--hidden-dims", "5 / 4, 3/ 3"]
    base = ["train", "--epochs", "1", "--k", "2", "--out", tmp_path, *shape]
    code, _, err = run(capsys, *base, "--layers", 3)
    assert code == 0, err
    assert mv.load_run(tmp_path).model.hidden_dims == ((5,), (4, 3), (3,))


def test_quiet(small, tmp_path, capsys):
    assert run(capsys, *TRAIN, tmp_path, "--quiet") == (0, "", "")
    argv = "evaluate", tmp_path, "--k", 5, "--quiet"
    assert run(capsys, *argv) == (0, "", "")
    code, out, err = run(capsys, "evaluate", tmp_path, "--images", "0", "--quiet")
    assert code == 2 and "a whole number from 1 on" in err
    code, out, err = run(capsys, *TRAIN, tmp_path, "--epochs", 3)
    assert "epoch 3: bound" in out and re.match(r"epoch 3 of 3: iwae -\d", err)


def test_without_a_run_the_model_that_comes_along_is_drawn_from(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "sample", "--n", 4)[0] == 0
    assert run(capsys, "sample", "--between", 0, 1)[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["interpolation.png", "samples.png"]
    for option in (["--average"], ["--data", "mnist"]):
        code, _, err = run(capsys, "sample", *option)
        assert code == 2 and f"{option[0]} is for a run, and none is given" in err


def test_too_many_samples_for_a_picture(small, tmp_path, capsys):
    run(capsys, *TRAIN, tmp_path)
    code, _, err = run(capsys, "sample", tmp_path, "--n", 10**12)
    assert code == 2 and "at most 10,000 images; got 1,000,000,000,000" in err


def test_ctrl_c_in_the_first_epoch_says_that_nothing_is_kept(
    small, tmp_path, capsys, monkeypatch
):
    def interrupt(*args):
        _thread.interrupt_main()
        return real(*args)

    real = training.take_step
    monkeypatch.setattr(training, "take_step", interrupt)
    code, _, err = run(capsys, *TRAIN, tmp_path)
    assert code == 130 and "nothing is kept. The same command again begins anew" in err


def test_help_estimators(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help-estimators"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for name, entry in mv.ESTIMATORS.items():
        line = f"\n{name:<10} {entry.only_for or 'all':<8} {entry.summary}\n"
        assert line in out and entry.because in out


@pytest.mark.parametrize(
    "argv",
    [
        ["--bound", "miwae", "--m", "2", "--estimator", "dreg"],
        ["--bound", "vr", "--alpha", "0.5", "--backward", "sparse"],
        ["--estimator", "score", "--backward", "single"],
        ["--likelihood", "gaussian"],
        ["--likelihood", "bernoulli-grey", "--bound", "ciwae", "--beta", "0.5"],
        ["--layers", "2", "--estimator", "vimco", "--hidden-dims", "5/4"],
    ],
)
def test_the_family_trains(small, tmp_path, capsys, argv):
    base = ["train", "--epochs", "1", "--k", "4", "--out", tmp_path]
    if "--layers" not in argv:
        base += ["--hidden-dims", "5", "--latent-dims", "2"]
    code, _, err = run(capsys, *base, *argv)
    assert code == 0, err
    code, _, err = run(capsys, "evaluate", tmp_path, "--k", 5, "--images", 3)
    assert code == 0, err
    assert run(capsys, "sample", tmp_path)[0] == 0
