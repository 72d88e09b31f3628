"""What the released code does otherwise, in small."""

import json

import numpy as np
import pytest

import minivae as mv
from minivae import cli, training
from minivae.data import Dataset
from minivae.engine.params import Params
from minivae.experiments import departures

IMAGES = np.random.default_rng(0).random((60, 784), np.float32) ** 4


@pytest.fixture
def small(monkeypatch):
    """Sixty images, two stages of an epoch."""
    data = Dataset(IMAGES[:50], None, None, None, validation_images=IMAGES[50:])
    monkeypatch.setattr(departures, "load", lambda name, validation: data)
    monkeypatch.setattr(departures, "STAGES", [(1, 1e-3), (1, 1e-4)])
    monkeypatch.setattr(departures, "WEIGHTS", 3)


def test_none_is_the_preset(small):
    images = IMAGES[:50]
    model, bounds = departures.trained("none", images, progress=False)
    same = mv.VAE(784, rng=0, x_mean=images.mean(axis=0))
    preset = mv.PRESETS["burda"] | {"stages": departures.STAGES}
    run = mv.train(same, images, "elbo", 1, **preset, progress=False)
    np.testing.assert_array_equal(model.params.vector, same.params.vector)
    assert bounds == run.history["bound"]


def test_departures(small, tmp_path, capsys, monkeypatch):
    command = ["reproduce", "departures", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out and table.count("\n| ") == 7
    rows = json.loads((tmp_path / "departures.json").read_text())["rows"]
    assert [row["departure"] for row in rows] == [*departures.DEPARTURES]
    assert len({row["nll"] for row in rows}) == len(rows)  # each changes something
    (line,) = (line for line in table.splitlines() if line.startswith("| beta_1"))
    by_name = {row["departure"]: row["nll"] for row in rows}
    less = by_name["beta_1 of 0.99"] - by_name["none"]
    assert line.split(" | ")[3] == f"{less:+.2f}"
    monkeypatch.setattr(departures, "measured", None)
    assert cli.main(command) == 0  # nothing is trained twice


def test_what_is_done_is_kept(small, tmp_path, monkeypatch):
    names, real = [], departures.measured

    def stopped_at_the_third(departure, *more):
        names.append(departure)
        if len(names) == 3:
            raise KeyboardInterrupt
        return real(departure, *more)

    monkeypatch.setattr(departures, "measured", stopped_at_the_third)
    command = ["reproduce", "departures", "--out", str(tmp_path)]
    assert cli.main(command) == 130
    assert len(json.loads((tmp_path / "departures.json").read_text())["rows"]) == 2
    assert cli.main(command) == 0
    assert names == [*departures.DEPARTURES][:3] + [*departures.DEPARTURES][2:]


def test_a_second_moment_of_a_sum(small, monkeypatch):
    """One step from v = 1, of the gradient's sum over a batch of 20."""
    steps, real = [], training.take_step

    def noted(trained, grads, rate):
        before = trained.model.params.vector.copy()
        gradient = grads.vector.astype(np.float64)
        finite = real(trained, grads, rate)
        steps.append((gradient, trained.model.params.vector - before))
        return finite

    monkeypatch.setattr(training, "take_step", noted)
    monkeypatch.setitem(departures.DEPARTURES, "one", {"v": 1.0})
    departures.trained("one", IMAGES[:20], progress=False)
    gradient, step = steps[0]
    v = (0.999 + 0.001 * (20 * gradient) ** 2) / 0.001
    expected = 1e-3 * 20 * gradient / (np.sqrt(v) + 1e-4)
    np.testing.assert_allclose(step, expected, atol=5e-7)
    assert abs(expected).max() > 1e-5


def test_a_nan_is_no_result(small, monkeypatch):
    monkeypatch.setitem(departures.DEPARTURES, "none", {"epsilon": 1e-30})
    monkeypatch.setattr(departures, "STAGES", [(3, 1e30)])
    with pytest.raises(mv.NonFiniteError, match="epoch 1, step"):
        departures.trained("none", IMAGES[:50], progress=False)


def test_the_order_stays(small, monkeypatch):
    orders, real = [], training.step_gradient

    def noted(trained, indices, epoch, step):
        orders.append((epoch, *trained.images[indices].sum(axis=1)))
        return real(trained, indices, epoch, step)

    monkeypatch.setattr(training, "step_gradient", noted)
    for departure, same in (("none", False), ("images never reshuffled", True)):
        orders.clear()
        departures.trained(departure, IMAGES[:50], progress=False)
        first, second = (
            [order[1:] for order in orders if order[0] == epoch] for epoch in (1, 2)
        )
        assert (first == second) == same and len(first) == 3


def test_stale_moments_against_the_formula():
    rng = np.random.default_rng(0)
    params = Params.of({"p": rng.standard_normal(5)}, np.float64)
    adam = departures.StaleAdam(params, learning_rate=0.01, beta1=0.99, epsilon=1e-3)
    adam.v.vector[...] = 0.25
    p, m, v = params["p"].copy(), np.zeros(5), np.full(5, 0.25)
    for t in range(1, 6):
        g = rng.standard_normal(5)
        m_hat, v_hat = m / (1 - 0.99**t), v / (1 - 0.999**t)
        p += 0.01 * m_hat / (np.sqrt(v_hat) + 1e-3)
        m, v = 0.99 * m + 0.01 * g, 0.999 * v + 0.001 * g**2
        adam.step(Params.of({"p": g}, np.float64))
        np.testing.assert_allclose(params["p"], p, rtol=1e-12)


def test_matrices_that_start_alike():
    model = mv.VAE(9, (4,), ((5, 5),), rng=3)
    departures.start_alike(model)
    params = model.params
    np.testing.assert_array_equal(params["q1.mu.W"], params["q1.log_sigma.W"])
    np.testing.assert_array_equal(params["q1.hidden2.W"], params["p1.hidden2.W"])
    assert np.ptp(params["q1.mu.W"]) > 1 and not params["q1.mu.b"].any()
    assert abs(params["q1.mu.W"]).max() < np.sqrt(6 / 9)
