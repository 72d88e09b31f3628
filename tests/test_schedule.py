"""The learning rate of each step, and the running average of the parameters."""

import json
from dataclasses import replace
from math import cos, pi

import numpy as np
import pytest

import minivae as mv
from minivae import training
from minivae.cli import main
from minivae.kernels import NAMES, load_ops

IMAGES = np.random.default_rng(1).random((21, 9))


def run(folder=None, kernels="numba", **settings):
    """Epochs of six steps, the last a short one."""
    rng = np.random.default_rng(0)
    model = mv.VAE(9, (2,), ((4,),), dtype=np.float64, rng=rng, kernels=kernels)
    settings = {"k": 3, "epochs": 4, "batch": 4} | settings
    return mv.train(model, IMAGES, **settings, folder=folder, progress=False)


@pytest.fixture
def steps(monkeypatch):
    """(learning rate, parameters after it) of each step."""
    seen, real = [], training.take_step

    def spy(state, grads, learning_rate):
        finite = real(state, grads, learning_rate)
        assert state.adam.learning_rate == learning_rate
        seen.append((learning_rate, state.model.params.vector.copy()))
        return finite

    monkeypatch.setattr(training, "take_step", spy)
    return seen


def test_a_cosine_falls_from_step_to_step(steps):
    history = run(schedule="cosine", learning_rate=0.01).history
    rates = [rate for rate, _ in steps]
    expected = [0.01 * (1 + cos(pi * s / 24)) / 2 for s in range(24)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert history["learning_rate"] == rates[::6]  # of an epoch's first step


def test_a_cosine_over_stages(steps):
    run(schedule="cosine", stages=[(1, 0.01), (1, 0.001)])
    wave = [(1 + cos(pi * s / 12)) / 2 for s in range(12)]
    expected = np.repeat([0.01, 0.001], 6) * wave
    np.testing.assert_allclose([rate for rate, _ in steps], expected, rtol=1e-12)


def test_stages_are_constant(steps):
    run(stages=[(1, 0.01), (2, 0.001)])
    assert [rate for rate, _ in steps] == [0.01] * 6 + [0.001] * 12


def test_the_average_is_the_weighted_mean_of_all_steps(steps):
    result = run(average=0.8)
    weights = 0.8 ** np.arange(len(steps))[::-1]
    expected = weights @ np.array([vector for _, vector in steps]) / weights.sum()
    np.testing.assert_allclose(result.average.vector, expected, rtol=1e-12)
    averaged = result.averaged()
    np.testing.assert_array_equal(averaged.params.vector, result.average.vector)
    assert averaged is not result.model and result.model.params is not averaged.params
    np.testing.assert_array_equal(result.model.params.vector, steps[-1][1])
    x, eps = np.eye(9), averaged.draw_eps(9, 2, np.random.default_rng(0))
    assert (averaged.log_weights(x, eps) != result.model.log_weights(x, eps)).all()


def test_training_does_not_see_the_average():
    plain, kept = run(), run(average=0.8)
    np.testing.assert_array_equal(plain.model.params.vector, kept.model.params.vector)
    assert plain.average is None
    with pytest.raises(ValueError, match="kept no average"):
        plain.averaged()


@pytest.mark.parametrize("kernels", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel(kernels, dtype):
    rng = np.random.default_rng(0)
    average, p = rng.standard_normal((2, 1001)).astype(dtype)
    expected = 0.9 * average.astype(float) + 0.1 * p.astype(float)
    load_ops(kernels).average(average, p, 0.9)
    assert average.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(average, expected, rtol=4 * eps, atol=eps)


def test_a_stopped_run_ends_bit_for_bit(tmp_path, monkeypatch):
    settings = {"schedule": "cosine", "average": 0.8, "estimator": "score"}
    whole, real = run(**settings), training.save_epoch

    def stop(folder, config, adam, state, history):
        real(folder, config, adam, state, history)
        if len(history["epoch"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **settings)
    monkeypatch.setattr(training, "save_epoch", real)
    resumed = run(tmp_path, **settings)
    for loaded in (resumed, mv.load_run(tmp_path)):
        for name in whole.model.params:
            np.testing.assert_array_equal(
                loaded.model.params[name], whole.model.params[name]
            )
            np.testing.assert_array_equal(loaded.average[name], whole.average[name])
    assert resumed.history["bound"] == whole.history["bound"]


def test_what_cannot_be_resumed(tmp_path):
    run(tmp_path, schedule="cosine", average=0.8)
    with pytest.raises(ValueError, match="at other learning rates"):
        run(tmp_path, schedule="cosine", average=0.8, epochs=5)
    with pytest.raises(ValueError, match="average was 0.8, is 0.9"):
        run(tmp_path, schedule="cosine", average=0.9)
    with pytest.raises(ValueError, match="schedule was 'cosine', is 'constant'"):
        run(tmp_path, average=0.8)


def test_a_run_from_before_there_were_schedules(tmp_path):
    run(tmp_path, epochs=2)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["schedule"], config["average"]
    path.write_text(json.dumps(config))
    assert len(run(tmp_path).history["epoch"]) == 4


@pytest.mark.parametrize("settings, words", [
    ({"schedule": "linear"}, "schedule must be one of constant, cosine; got 'linear'"),
    ({"average": 1.0}, "average must lie between 0 and 1, as 0.999, or be left out"),
    ({"average": 0}, "average must lie between 0 and 1"),
    ({"average": float("nan")}, "average must lie between 0 and 1"),
])  # fmt: skip
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        run(**settings)


def test_average_of_a_numpy_number(tmp_path):
    run(tmp_path, average=np.float32(0.5))
    assert mv.load_run(tmp_path).config["average"] == 0.5


def test_command_line(tmp_path, monkeypatch, capsys):
    data = mv.load("mnist")
    few = replace(
        data,
        train_images=data.train_images[:40],
        test_images=data.test_images[:8],
        test_labels=data.test_labels[:8],
    )
    monkeypatch.setattr("minivae.data.load", lambda name, **options: few)
    out = str(tmp_path / "run")
    shape = ["--latent-dims", "2", "--hidden-dims", "4", "--k", "2", "--epochs", "2"]
    how = ["--schedule", "cosine", "--average", "0.5", "--batch", "20"]
    assert main(["train", "--out", out, *shape, *how]) == 0
    loaded = mv.load_run(out)
    assert loaded.config["schedule"] == "cosine" and loaded.config["average"] == 0.5
    nll = []
    for more in ([], ["--average"]):
        assert main(["evaluate", out, "--k", "10", *more]) == 0
        name = "evaluation_8_images_k_10" + "_averaged" * bool(more) + ".json"
        nll.append(json.loads((tmp_path / "run" / name).read_text())["nll"])
    images = few.test_images
    assert nll[0] == mv.evaluate(loaded.model, images, 10, progress=False).nll
    assert nll[1] == mv.evaluate(loaded.averaged(), images, 10, progress=False).nll
    assert nll[0] != nll[1]
    assert main(["sample", out, "--average"]) == 0
    plain = str(tmp_path / "plain")
    assert main(["train", "--out", plain, *shape]) == 0
    capsys.readouterr()
    assert main(["evaluate", plain, "--average"]) == 2
    assert "kept no average" in capsys.readouterr().err
