"""A function after each epoch, and what is left of a run that was stopped."""

import signal

import numpy as np
import pytest

import minivae as mv

IMAGES = np.random.default_rng(0).random((40, 9))


def train(**settings):
    model = mv.VAE(9, (2,), ((3,),), rng=np.random.default_rng(0))
    settings = {"k": 2, "batch": 20, "progress": False, "epochs": 4} | settings
    return mv.train(model, IMAGES, **settings)


def test_it_is_called_after_each_epoch(tmp_path):
    seen = []

    def callback(run):
        on_disk = mv.load_run(tmp_path)  # saved by then
        assert on_disk.history == run.history
        np.testing.assert_array_equal(
            on_disk.average.vector, run.averaged().params.vector
        )
        seen.append((run.history["epoch"][-1], run.model.params.vector.copy()))

    run = train(folder=tmp_path, average=0.5, callback=callback)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal(seen[-1][1], run.model.params.vector)
    assert (seen[0][1] != seen[1][1]).any()


def test_true_ends_the_run_and_the_same_call_goes_on(tmp_path):
    def enough(run):
        return np.True_ if run.history["epoch"][-1] == 2 else None

    run = train(folder=tmp_path, callback=enough)
    assert run.history["epoch"] == [1, 2] and len(run.config["stages"]) == 1
    resumed, unbroken = train(folder=tmp_path), train()
    assert resumed.history["epoch"] == [1, 2, 3, 4]
    np.testing.assert_array_equal(
        resumed.model.params.vector, unbroken.model.params.vector
    )


def test_an_interrupt_carries_the_run():
    def press_ctrl_c(run):
        if run.history["epoch"][-1] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 3") as stop:
        train(average=0.5, callback=press_ctrl_c)
    run = stop.value.run
    assert run.history["epoch"] == [1, 2]
    assert np.isfinite(run.averaged().params.vector).all()
    again = train(epochs=2)  # a step of the third epoch has been taken since
    assert (run.model.params.vector != again.model.params.vector).any()
    assert run.model.origin["epoch"] == 2
    mv.evaluate(run.model, IMAGES, 5, progress=False)


def test_an_interrupt_before_the_first_epoch(monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("minivae.training.run_epoch", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(average=0.5)
    assert stop.value.run.history == {} and stop.value.run.average is None
