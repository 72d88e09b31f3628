"""No equation without a check, and no claim about committed numbers without them.

Each numbered equation of the chapters is cited by the code that computes it, or
asserted by a Python block or a test that cites it, or a definition. With its kind for a
name, each is a test: ``pytest --collect-only tests/test_equations.py`` lists them.
"""

import ast
import json
import re

import numpy as np
import pytest
from test_derivations import BLOCK, CHAPTERS, ROOT, SOURCES, cited, equations, text

import minivae as mv
from minivae import gaussian, log_weights, networks
from minivae.experiments.snr import snr_curves
from minivae.gradcheck import small_model
from minivae.kernels import Ops
from minivae.kernels.bernoulli import GROUP

# What they say is so because they say so: there is nothing to compute or compare
DEFINITIONS = {
    "4.2": "the aggregated posterior, whose use in 4.3 is asserted",
    "24.1": "the roofline, a model of a processor",
}
ASSERTS = re.compile(r"\bassert\b|\bassert_\w+\(")


def citing_tests():
    """The source of every test that asserts something; but for test_derivations.py,
    which cites for the sake of its own reader of citations.
    """
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        lines = text(path).splitlines()
        for node in ast.parse(text(path)).body:
            if getattr(node, "name", "").startswith("test_"):
                yield path.name, "\n".join(lines[node.lineno - 1 : node.end_lineno])


def kinds():
    """Number -> "cited", "asserted", "definition" or None, in the chapters' order."""
    by_code = set().union(*(cited(text(path)) for path in SOURCES))
    blocks = [block for path in CHAPTERS for block in BLOCK.findall(text(path))]
    tests = [source for name, source in citing_tests() if name != "test_derivations.py"]
    asserted = set()
    for source in (*blocks, *tests):
        if ASSERTS.search(source):
            asserted |= cited(source)
    return {
        number: "cited"
        if number in by_code
        else "asserted"
        if number in asserted
        else "definition"
        if number in DEFINITIONS
        else None
        for number in equations()
    }


KINDS = kinds()


@pytest.mark.parametrize(
    "number", [pytest.param(n, id=f"{n} {KINDS[n]}") for n in KINDS]
)
def test_an_equation_has_a_kind(number):
    assert KINDS[number], f"({number}) is neither cited, nor asserted, nor a definition"


def test_definitions_are_few_and_nothing_else():
    assert DEFINITIONS.keys() == {
        n for n, kind in KINDS.items() if kind == "definition"
    }
    assert len(DEFINITIONS) <= 5


# What the chapters say of the code


def chapter(number):
    (path,) = (path for path in CHAPTERS if path.name.startswith(f"{number:02d}_"))
    return text(path)


def test_chapter_5_which_densities_are_computed(monkeypatch):
    """One layer and binary images: eq. 8.3 alone. 7.2 and 5.1 in a deeper model, 5.1
    for a Gaussian likelihood.
    """
    called = set()
    for module in (log_weights, networks):
        for name in ("log_density", "log_density_of_draw"):
            if hasattr(module, name):
                function = getattr(gaussian, name)

                def noted(*arguments, function=function):
                    called.add(function.__name__)
                    return function(*arguments)

                monkeypatch.setattr(module, name, noted)
    expected = {
        (1, "bernoulli"): set(),
        (2, "bernoulli"): {"log_density", "log_density_of_draw"},
        (1, "gaussian"): {"log_density"},
    }
    for (depth, likelihood), names in expected.items():
        called.clear()
        rng = np.random.default_rng(0)
        latent, hidden = (3, 2)[:depth], ((5,), (4,))[:depth]
        model = mv.VAE(4, latent, hidden, likelihood, np.float64, rng=rng)
        mv.bound_and_grad(model, np.eye(4), model.draw_eps(4, 3, rng))
        assert called == names


def test_chapter_8_how_many_pixels_one_logarithm_serves():
    (said,) = re.findall(r"groups are of at most (\d+)\s+pixels", chapter(8))
    assert int(said) == GROUP and f"2^{{{GROUP}}}" in chapter(8)


def test_chapter_16_one_layer_has_one_pass():
    """And with two, a second one through q_2 where the score is not -path."""
    passes = {}
    for depth in (1, 2):
        model, x, eps = small_model("numpy", (3, 2)[:depth], ((5,), (4,))[:depth])
        right = model.ops.reparameterize_backward
        for estimator in ("reparam", "stl", "dreg", "score", "vimco", "piwae"):
            calls = []

            def counted(*arguments, calls=calls, right=right):
                calls.append(1)
                return right(*arguments)

            model.ops = Ops(**vars(model.ops) | {"reparameterize_backward": counted})
            options = {"m": 3} if estimator == "piwae" else {}
            mv.bound_and_grad(model, x, eps, "iwae", estimator, **options)
            passes[depth, estimator] = len(calls)
    assert {passes[1, name] for _, name in passes} == {1}
    plain = {name: passes[2, name] for name in ("reparam", "piwae")}
    assert {*plain.values()} == {2}
    assert {passes[2, name] for _, name in passes if name not in plain} == {3}


# What they say of committed numbers


def test_chapter_12_thresholds_of_active_units():
    """Of the IWAE after 20 epochs: the count depends on the threshold of eq. 12.3."""
    folder = ROOT / "benchmarks/results/iwae_k5_20_epochs"
    (path,) = folder.glob("evaluation_10000_*.json")
    (variances,) = json.loads(text(path))["unit_variances"]
    variances = np.array(variances)
    counts = [int((variances > t).sum()) for t in (0.005, 0.01, 0.02, 0.05, 0.5)]
    assert counts == [46, 36, 27, 22, 22] and len(variances) == 50
    a, b, c, d = counts[:4]
    assert f"{a}, {b}, {c} or {d} active" in chapter(12)
    assert f"0.05 to 0.5 it remains {d}" in chapter(12)
    unused = variances[variances <= 0.05]
    low, high = (f"{v:.3f}" for v in (unused.min(), unused.max()))
    assert f"{len(unused)} have variances from {low} to {high}" in chapter(12)


def test_chapter_12_effective_sample_size():
    """ "About a dozen of 5,000" (eq. 12.4)."""
    folder = ROOT / "benchmarks/results/iwae_k5_20_epochs"
    (path,) = folder.glob("evaluation_10000_*.json")
    assert 10 < json.loads(text(path))["effective_sample_size"] < 15


def snr():
    rows = json.loads(text(ROOT / "benchmarks/results/snr/snr.json"))["rows"]
    return snr_curves(rows)


def slope(curve):
    """Of log SNR against log K, from K = 16 on."""
    K, ratio = np.array([(K, ratio) for K, ratio in curve if K >= 16]).T
    return np.polyfit(np.log(K), np.log(ratio), 1)[0]


def test_chapter_22_slopes_on_the_toy():
    """Theta +1/2 (eq. 22.2); phi -1/2 (eq. 22.3), for miwae's phi +1/2 in the number of
    groups (eq. 22.4), with dreg +1/2 (eq. 22.5).
    """
    curves = snr()
    expected = {"reparam": -1 / 2, "piwae": 1 / 2, "dreg": 1 / 2, "score": -1}
    expected |= {"vimco": -1 / 2, "rws": 1 / 2, "rws-dreg": 1 / 2, "stl": 1 / 2}
    assert expected.keys() == curves["toy", "phi"].keys()
    assert "to within 0.04" in chapter(22)
    assert slope(curves["toy", "theta"]["reparam"]) == pytest.approx(1 / 2, abs=0.04)
    for estimator, value in expected.items():
        curve = curves["toy", "phi"][estimator]
        assert slope(curve) == pytest.approx(value, abs=0.04), estimator
    mnist = {name: slope(curve) for name, curve in curves["mnist", "phi"].items()}
    assert mnist["piwae"] == pytest.approx(1 / 2, abs=0.04)
    others = [name for name in expected if name != "piwae"]
    assert all(abs(mnist[name] - expected[name]) > 0.2 for name in others)


def test_chapter_22_signal_and_noise_apart():
    """The plain gradient's signal falls like 1/K, its noise like K^(-1/2) (eq. 22.3);
    dreg's noise like K^(-3/2) (eq. 22.5).
    """
    rows = json.loads(text(ROOT / "benchmarks/results/snr/snr.json"))["rows"]
    at = {(r["estimator"], r["k"]): r for r in rows if r["model"] == "toy"}

    def log_slope(estimator, name):
        ks = [k for of, k in at if of == estimator and k >= 16]
        values = np.array([at[estimator, k][name] for k in ks])
        return np.polyfit(np.log(ks), np.log(values) / 2, 1)[0]

    assert log_slope("dreg", "phi_signal2") == pytest.approx(-1, abs=0.05)
    assert log_slope("reparam", "phi_noise2") == pytest.approx(-1 / 2, abs=0.05)
    assert log_slope("dreg", "phi_noise2") == pytest.approx(-3 / 2, abs=0.05)


def test_chapter_22_order_of_the_estimators():
    curves, orders = snr(), {}
    for name, model in {"toy": "toy", "MNIST": "mnist"}.items():
        (row,) = re.findall(rf"^\| {name} \| (`.*`) \|$", chapter(22), re.M)
        for K in (64, 1024):
            at = {e: dict(curve)[K] for e, curve in curves[model, "phi"].items()}
            orders[name, K] = sorted(at, key=at.get, reverse=True)
        assert re.findall(r"`([\w-]+)`", row) == orders[name, 64]
    assert orders["toy", 64] != orders["MNIST", 64]
    rank = {key: order.index for key, order in orders.items()}
    assert rank["toy", 1024]("dreg") < rank["toy", 1024]("rws")
    assert rank["MNIST", 1024]("dreg") > rank["MNIST", 1024]("rws")
    for name in ("toy", "MNIST"):
        without_score = [rank[name, 64](e) for e in ("rws-dreg", "stl", "dreg")]
        with_score = [rank[name, 64](e) for e in ("vimco", "reparam")]
        assert max(without_score) < min(with_score)
        assert orders[name, 64][-1] == "score"
