"""No two draws of a run share their counter."""

from types import SimpleNamespace

import numpy as np
import oracles
import pytest

import minivae as mv
from minivae.engine import noise as engine_noise
from minivae.kernels import load_ops, noise


@pytest.fixture
def counters(monkeypatch):
    """The (key, image, step, stream) of every image that was drawn for."""
    seen = []

    def spy(draw):
        def drawn(key, first, *what):
            *what, step, stream = what
            B = what[0] if len(what) == 2 else len(what[0])  # numbers, or images
            seen.extend((tuple(key), first + i, step, stream) for i in range(B))
            return draw(key, first, *what, step, stream)

        return drawn

    real = noise.VERSIONS["numba"]
    functions = {name: spy(draw) for name, draw in vars(real).items()}
    monkeypatch.setitem(noise.VERSIONS, "numba", SimpleNamespace(**functions))
    return seen


def two_layers():
    model = mv.VAE(9, (2, 2), ((6,), (5,)), rng=np.random.default_rng(0))
    return model, np.random.default_rng(1).random((50, 9))


@pytest.mark.parametrize("backward", ["all", "single", "sparse"])
def test_of_a_training_run(counters, backward):
    """Two seeds, three epochs, seven steps: pixels, eps of each layer, subsampling."""
    for seed in (0, 1):
        model, images = two_layers()
        settings = {"batch": 8, "epochs": 3, "seed": seed, "backward": backward}
        mv.train(model, images, "iwae", 3, **settings, progress=False)
    assert len(counters) == 2 * 3 * 50 * 4
    assert len(set(counters)) == len(counters)


def test_of_an_evaluation(counters):
    model, images = two_layers()
    mv.evaluate(model, images, k=50, progress=False)  # three blocks of samples
    assert len(counters) == 50 * 3 * 2
    assert len(set(counters)) == len(counters)


def test_where_a_draw_stands():
    """Its counter has image, step, epoch and stream in the places of chapter 23."""
    ops = load_ops("numpy")
    draw = {"seed": 3, "epoch": 2, "step": 5, "stream": 1}
    numbers = engine_noise.uniform(ops, **draw, images=slice(7, 9), shape=(4,))
    key = engine_noise.seed_key(3)
    for row, image in zip(numbers, (7, 8)):
        words = oracles.philox(key, (0, image, 5, 2 << 8 | 1))
        np.testing.assert_allclose(row, np.ravel(words) / 2**32, atol=1e-7)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_pixel_is_one_where_its_number_is_below_its_grey_value(kernels):
    """And not where it is the same: a black pixel is never one."""
    ops, key, first, step, word = load_ops(kernels), (3, 4), 5, 6, 7
    u = ops.uniform(key, first, 2, 9, step, word)
    assert (ops.binarize(key, first, u, step, word) == 0).all()
    above = np.nextafter(u, np.float32(1))
    assert (ops.binarize(key, first, above, step, word) == 1).all()
