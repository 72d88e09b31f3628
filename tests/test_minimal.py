"""The one page of chapter 0 says the same as the package, and stays one page."""

import ast
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minivae as mv
from minivae import minimal

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "minivae/minimal.py").read_text(encoding="utf-8")
CHAPTER = (ROOT / "derivations/00_one_page.md").read_text(encoding="utf-8")
B, D, H, L = 4, 12, 6, 3
BOUNDS = {"elbo": minimal.elbo, "iwae": minimal.iwae}


def small_model():
    """A float64 model with all its parameters random, biases too, and a batch of x."""
    rng = np.random.default_rng(0)
    settings = {"dtype": np.float64, "kernels": "numpy", "rng": rng}
    model = mv.VAE(D, (L,), ((H, H),), **settings)
    for array in model.params.values():
        array += 0.3 * rng.standard_normal(array.shape)
    return model, (rng.random((B, D)) < 0.5) * 1.0, rng


def assert_close(got, want, name=""):
    """Each number to 1e-12 of the largest."""
    error = np.abs(got - want).max() / np.abs(want).max()
    assert got.shape == want.shape and error < 1e-12, (name, error)


def derivative(f, h=2e-4):
    """df/dt at t = 0, central, with an error of order h^4."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def test_init_is_the_packages():
    x_mean = np.linspace(0, 1, D)
    params = minimal.init(np.random.default_rng(1), x_mean, H, L)
    settings = {"rng": np.random.default_rng(1), "x_mean": x_mean}
    want = mv.VAE(D, (L,), ((H, H),), **settings).params
    assert list(params) == list(want)
    for name, array in want.items():
        assert params[name].dtype == array.dtype == np.float32
        np.testing.assert_array_equal(params[name], array, err_msg=name)


@pytest.mark.parametrize("K", [1, 3, 7])
@pytest.mark.parametrize("bound", BOUNDS)
def test_bound_and_gradient_are_the_packages(bound, K):
    model, x, rng = small_model()
    eps = rng.standard_normal((B, K, L))
    want, want_grads = mv.bound_and_grad(model, x, [eps], bound=bound)
    got, grads = minimal.bound_and_grad(model.params, x, eps, BOUNDS[bound])
    assert_close(got, np.float64(want))
    assert grads.keys() == want_grads.keys()
    for name, grad in want_grads.items():
        assert_close(grads[name], grad, name)


def test_ten_steps_of_adam_are_the_packages():
    model, _, rng = small_model()
    params = {name: array.copy() for name, array in model.params.items()}
    arrays = dict(params)
    m, v = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)
    optimiser = mv.Adam(model.params, kernels="numpy")
    for t in range(1, 11):
        grads = {name: rng.standard_normal(p.shape) for name, p in params.items()}
        minimal.adam(params, grads, m, v, t)
        optimiser.step(grads)
    for name, array in model.params.items():
        assert params[name] is arrays[name], "not in place"
        assert_close(params[name], array, name)


@pytest.mark.parametrize("bound", BOUNDS.values())
def test_coefficients_are_the_derivative(bound):
    """With a random cotangent: all ones would not see an error in a softmax."""
    rng = np.random.default_rng(2)
    log_w, direction = 3 * rng.standard_normal((2, B, 5)) + [[[-900.0]], [[0.0]]]
    dvalue = rng.standard_normal(B)
    _, c = bound(log_w)
    numeric = derivative(lambda t: dvalue @ bound(log_w + t * direction)[0])
    assert np.isclose((dvalue[:, None] * c * direction).sum(), numeric, rtol=1e-9)
    np.testing.assert_allclose(c.sum(axis=1), 1)


@pytest.mark.parametrize("bound", BOUNDS.values())
def test_gradient_is_the_derivative(bound):
    """All the parameters move at once, along one random direction."""
    model, x, rng = small_model()
    eps = rng.standard_normal((B, 5, L))
    direction = {name: rng.standard_normal(p.shape) for name, p in model.params.items()}

    def along(t):
        moved = {name: p + t * direction[name] for name, p in model.params.items()}
        return minimal.bound_and_grad(moved, x, eps, bound)[0]

    _, grads = minimal.bound_and_grad(model.params, x, eps, bound)
    analytic = sum((grads[name] * direction[name]).sum() for name in grads)
    assert np.isclose(analytic, derivative(along), rtol=1e-9)


def test_float32_stays_float32_and_log_weights_are_float64():
    model, x, rng = small_model()
    eps = rng.standard_normal((B, 5, L))
    want, want_grads = minimal.bound_and_grad(model.params, x, eps, minimal.iwae)
    single = {name: p.astype(np.float32) for name, p in model.params.items()}

    def bound(log_w):
        assert log_w.dtype == np.float64 and log_w.shape == (B, 5)
        return minimal.iwae(log_w)

    x, eps = x.astype(np.float32), eps.astype(np.float32)
    value, grads = minimal.bound_and_grad(single, x, eps, bound)
    assert np.isclose(value, want, rtol=1e-6)
    for name, grad in grads.items():
        assert grad.dtype == np.float32, name
        error = np.abs(grad - want_grads[name]).max()
        assert error < 1e-5 * np.abs(want_grads[name]).max(), name


@pytest.fixture(scope="module")
def images():
    return mv.load("mnist").train_images[:200]


def test_training_raises_the_bound(images):
    """An epoch over 200 images, measured with one noise before and after."""
    rng = np.random.default_rng(3)
    params = minimal.init(rng, images.mean(axis=0))
    x, eps = np.round(images), rng.standard_normal((200, 5, 50), np.float32)
    before, _ = minimal.bound_and_grad(params, x, eps, minimal.iwae)
    minimal.train(params, images, rng, minimal.iwae, K=5, epochs=1, batch=15)
    after, _ = minimal.bound_and_grad(params, x, eps, minimal.iwae)
    assert after > before + 3


def drawings(printed):
    """The lines of characters after each line on an epoch."""
    parts = re.split(r"^epoch \d+: \S+ nats\n", printed, flags=re.M)
    assert parts[0] == ""
    return [part.splitlines() for part in parts[1:]]


def test_it_draws_what_the_decoder_says(images, capsys):
    """A decoder whose biases alone say one image; a step of Adam hardly moves them."""
    image, rng = np.round(images[:1]), np.random.default_rng(4)
    params = minimal.init(rng, image[0])
    params["p1.logits.W"][:] = 0
    minimal.train(params, image, rng, minimal.iwae, K=5, epochs=1)
    want = [
        "".join("##" if p else "  " for p in line) for line in image.reshape(28, 28)
    ]
    assert drawings(capsys.readouterr().out) == [want]


def test_the_page_runs_as_a_program(images, monkeypatch, capsys):
    """`python -m minivae.minimal`, if MNIST had 100 images."""
    few = SimpleNamespace(train_images=images[:100])
    monkeypatch.setattr("minivae.data.load", lambda name: few)
    monkeypatch.delitem(sys.modules, "minivae.minimal")
    runpy.run_module("minivae.minimal", run_name="__main__")
    printed = capsys.readouterr().out
    line = r"^epoch \d+: (\S+) nats$"
    bounds = [float(bound) for bound in re.findall(line, printed, re.M)]
    assert len(bounds) == 20 and bounds[-1] > bounds[0] + 10
    drawn = drawings(printed)
    assert len(drawn) == 20 and len(set(map(tuple, drawn))) == 20
    for lines in drawn:
        assert len(lines) == 28 and {len(line) for line in lines} == {56}
        assert {*"".join(lines)} <= {*" .:*#"}


def test_the_page_is_one_page():
    assert PAGE.count("\n") <= 118
    modules = set()
    for node in ast.walk(ast.parse(PAGE)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    assert modules - sys.stdlib_module_names == {"numpy", "minivae.data"}


def test_chapter_0_quotes_the_page():
    """Each quoted line, and each name in the table of chapters, is on the page."""
    lines = {line.strip() for line in PAGE.splitlines()}
    quotes = re.findall(r"^```text\n(.*?)^```$", CHAPTER, re.M | re.S)
    quoted = [line.strip() for quote in quotes for line in quote.splitlines()]
    assert len(quoted) > 20 and {*quoted} <= lines, {*quoted} - lines
    table = re.findall(r"^\| \[(\d+)\.[^|]*\| (.*) \|$", CHAPTER, re.M)
    # the later ones are about the whole of it
    assert [int(number) for number, _ in table] == [*range(1, 26)]
    code = re.sub(r'""".*?"""|#[^\n]*', "", PAGE, flags=re.S)
    for number, cell in table:
        names = re.findall(r"`([^`]+)`", cell)
        assert names, number
        for name in names:
            assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", code), (number, name)


def test_chapter_0_links_the_equations_of_the_page():
    comments = " ".join(re.findall(r"eqs?\. (.*)", PAGE))
    cited = set(re.findall(r"\d+\.\d+", comments))
    linked = set(re.findall(r"\[Eq\. \((\d+\.\d+)\)\]", CHAPTER))
    assert len(cited) > 20 and cited <= linked, cited - linked
