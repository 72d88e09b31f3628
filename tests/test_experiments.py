"""The experiments, in small: their arithmetic, their files, and that they resume."""

import json

import numpy as np
import pytest
from scipy import stats

import minivae as mv
from minivae import cli
from minivae.data import Dataset
from minivae.engine.noise import generator
from minivae.experiments import EXPERIMENTS, estimators, kl_weight, museum, snr, sparse

MODULES = {
    **{"snr": snr, "estimators": estimators, "sparse": sparse},
    **{"museum": museum, "kl-weight": kl_weight},
}
WORKERS = {
    "snr": "gradient_moments",
    "museum": "learning_curve",
    "kl-weight": "kl_weight_curves",
}


def test_toy_is_rainforths():
    """log p(x) in closed form, through the weights of a good q."""
    model, x = snr.toy_model(np.random.default_rng(3), x_dim=2)
    W, b = model.params["p1.mu.W"], model.params["p1.mu.b"]
    exact = stats.multivariate_normal(b, np.eye(2) + W.T @ W).logpdf(x[0])
    log_w = model.log_weights(x, model.draw_eps(1, 200_000, np.random.default_rng(0)))
    value, w_norm, _ = mv.BOUNDS["iwae"](log_w)
    assert value[0] == pytest.approx(exact, abs=4 * np.sqrt((w_norm**2).sum()))
    assert (w_norm**2).sum() < 2 / 200_000  # q is near the posterior, sigma too large


@pytest.mark.parametrize("estimator", ["reparam", "dreg", "score", "piwae"])
def test_gradient_moments(estimator):
    model, x = snr.toy_model(np.random.default_rng(1), x_dim=3)
    R, k = 40, 16
    moments = snr.gradient_moments(model, x, k, estimator, R, seed=5)
    eps = [model.draw_eps(1, k, generator(5, k, r)) for r in range(R + 100)]
    options = {"m": 2} if estimator == "piwae" else {}
    if estimator == "score":
        values = [mv.bound_and_grad(model, x, e, "iwae")[0] for e in eps[R:]]
        options["baseline"] = np.mean(values)
    grads = [
        mv.bound_and_grad(model, x, e, "iwae", estimator, **options)[1] for e in eps[:R]
    ]
    for group, network in (("theta", "p1"), ("phi", "q1")):
        names = [name for name in model.params if network in name]
        g = np.array([np.concatenate([g[n].ravel() for n in names]) for g in grads])
        noise2 = g.var(axis=0, ddof=1).sum()
        signal2 = (g.mean(axis=0) ** 2).sum() - noise2 / R
        assert moments[f"{group}_noise2"] == pytest.approx(noise2, rel=1e-9)
        assert moments[f"{group}_signal2"] == pytest.approx(signal2, rel=1e-6)


def planted_rows():
    """theta: K^(1/2). phi: dreg K^(1/2), reparam K^(-1/2) by dreg's signal."""
    rows = []
    for name in ("toy", "mnist"):
        for k in snr.SNR_SAMPLES:
            theta = {"theta_signal2": 4.0, "theta_noise2": 1 / k}
            phi = {
                "dreg": {"phi_signal2": 9 / k**2, "phi_noise2": 1 / k**3},
                "reparam": {"phi_signal2": -7.0, "phi_noise2": 1 / k},
                "stl": {"phi_signal2": -1.0, "phi_noise2": 1.0},
            }
            rows += [
                {"model": name, "estimator": estimator, "k": k} | theta | moments
                for estimator, moments in phi.items()
            ]
    return rows


def test_slopes():
    curves = snr.snr_curves(planted_rows())
    assert list(curves["toy", "theta"]) == ["reparam"]
    assert dict(curves["toy", "theta"]["reparam"])[64] == pytest.approx(16)
    assert dict(curves["toy", "phi"]["dreg"])[64] == pytest.approx(24)
    assert dict(curves["toy", "phi"]["reparam"])[64] == pytest.approx(3 / 8)
    table = snr.snr_table(curves)
    assert "| theta | all of them | +1/2 | +0.50 | +0.50 | 16 | 16 |" in table
    assert "| phi | dreg | +1/2 | +0.50 | +0.50 | 24 | 24 |" in table
    assert "| phi | reparam | -1/2 | -0.50 | -0.50 | 0.375 | 0.375 |" in table
    assert "| phi | stl | +1/2 | +nan | +nan | 0 | 0 |" in table  # drowned, and says so


def test_seconds_to():
    """By straight lines between points; NaN where the target is not reached."""
    curve = np.array([10.0, 20.0, 30.0, 40.0]), np.array([5.0, 3.0, 3.5, 1.0])
    assert sparse.seconds_to(4.0, *curve) == 15
    assert sparse.seconds_to(3.0, *curve) == 20
    assert sparse.seconds_to(2.25, *curve) == 35
    assert np.isnan(sparse.seconds_to(0.5, *curve))


def test_sparse_table():
    rows = [
        {"seed": seed, "backward": backward, "epoch": e, "seconds": e * cost,
         "nll": 100 - e + seed}
        for seed in (0, 1, 2)
        for backward, cost, epochs in (("all", 10.0, 5), ("sparse", 4.0, 7))
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    table = sparse.sparse_table(rows)
    assert "| 0 | 95.00 | 95.00 | +0.00 | 50 | 20 | 20 | 2.50 |" in table


@pytest.fixture
def small(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.random((60, 784), np.float32) ** 4, np.zeros(60, np.uint8)
    data = Dataset(images, labels, images[:20], labels[:20])
    for module in MODULES.values():
        monkeypatch.setattr(module, "load", lambda name: data)
    for module, name, value in (
        (snr, "SNR_SAMPLES", (1, 64)),
        (snr, "SNR_REPLICATES", {"toy": 3, "mnist": 3}),
        (snr, "SNR_EPOCHS", 1),
        (estimators, "RUN_K", 10),
        (estimators, "RUN_IMAGES", 20),
        (estimators, "RUN_WEIGHTS", 10),
        (sparse, "SPARSE_K", 10),
        (sparse, "SPARSE_IMAGES", 20),
        (sparse, "SPARSE_WEIGHTS", 10),
        (museum, "EPOCHS", 1),
        (museum, "TEST_K", 5),
        (museum, "EXHIBITS", dict([*museum.EXHIBITS.items()][-2:])),
        (museum, "which_checks_see", dict),  # test_museum has it
        (kl_weight, "EPOCHS", 1),
        (kl_weight, "TEST_K", 10),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("experiment", MODULES)
def test_an_experiment_resumes(experiment, small, tmp_path, capsys, monkeypatch):
    command = ["reproduce", experiment, "--out", str(tmp_path)]
    module, worker = MODULES[experiment], WORKERS.get(experiment, "evaluate")
    real, calls = getattr(module, worker), []

    def stopping(*args, **settings):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(args)
        return real(*args, **settings)

    def counting(*args, **settings):
        calls.append(args)
        return real(*args, **settings)

    monkeypatch.setattr(module, worker, stopping)
    assert cli.main(command) == 130
    monkeypatch.setattr(module, worker, counting)
    assert cli.main(command) == 0
    points = {"snr": 2 * (8 * 2 - 1), "estimators": 2 * 8, "sparse": 3 * 12}
    points |= {"museum": 4 + 2 + 2, "kl-weight": 6}
    points = points[experiment]
    assert len(calls) == points  # none is made twice
    out = capsys.readouterr().out
    table = (tmp_path / "table.md").read_text()
    assert table in out
    of_estimators = experiment in ("snr", "estimators")
    assert not of_estimators or all(name in table for name in mv.ESTIMATORS)
    rows = json.loads((tmp_path / f"{experiment}.json").read_text())["rows"]
    assert len(rows) == points
    if experiment in WORKERS:
        assert (tmp_path / f"{experiment}.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(command) == 0
    assert len(calls) == points  # and nothing is left to do


@pytest.mark.parametrize("experiment", MODULES)
@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"rows": 3},
        {"rows": [7]},
        {"nll": "x"},
        {"nll": 1.0, "training_seconds": 1.0, "active_units": []},
        [],
    ],
)
def test_damaged_results_are_refused_by_name(experiment, damage, small, tmp_path):
    path = tmp_path / f"{experiment}.json"
    if experiment == "estimators":
        path = tmp_path / "reparam-0" / "evaluation.json"
        path.parent.mkdir()
    path.write_text(json.dumps(damage))
    with pytest.raises(ValueError) as error:
        EXPERIMENTS[experiment](tmp_path, progress=False)
    assert str(path) in str(error.value)
