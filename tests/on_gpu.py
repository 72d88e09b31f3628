"""The whole training step with the CUDA kernels themselves: on a GPU, or in Numba's
simulator.

test_cuda.py runs this in a process of its own, with NUMBA_ENABLE_CUDASIM=1, and
benchmarks/gpu_check.sh on a GPU. The sizes are small: a simulated thread is a thread of
Python.
"""

import numpy as np
import pytest

import minivae as mv
from minivae.check import TOLERANCE, check_array
from minivae.gradcheck import examples, small_model
from minivae.kernels.device import SIMULATED, to_host

DEPTHS = {1: ((3,), ((4,),)), 2: ((3, 2), ((4,), (4,)))}


@pytest.mark.parametrize("bound, depth", [
    ("iwae", 1), ("iwae", 2), ("miwae", 1), ("elbo_kl", 1),
])  # fmt: skip
def test_gradients(bound, depth):
    """All parameters at once, along one random direction."""
    model, x, eps = small_model("cuda", *DEPTHS[depth], k=2)
    x, eps = x[:2], [e[:2] for e in eps]
    options = examples(bound)

    def value():
        return mv.bound_and_grad(model, x, eps, bound, **options)[0]

    _, grads = mv.bound_and_grad(model, x, eps, bound, **options)
    vectors, rng = (model.params.vector, grads.vector), np.random.default_rng(0)
    check = check_array("all", value, *vectors, rng, directions=1)
    assert check.error <= TOLERANCE, check


@pytest.mark.parametrize("settings", [
    {},
    {"backward": "sparse", "tau": 2.0, "estimator": "dreg"},
    {"estimator": "vimco", "dtype": "float32"},
    {"estimator": "stl", "depth": 2},
], ids=str)  # fmt: skip
def test_a_run_is_the_host_s(settings):
    """To the rounding of the noise, which is float32's; with a short last step."""
    settings = {"depth": 1, "dtype": "float64"} | settings
    depth, dtype = settings.pop("depth"), settings.pop("dtype")
    images, runs = np.random.default_rng(1).random((7, 9)), []
    for device in ("cpu", "cuda"):
        model = mv.VAE(
            9, *DEPTHS[depth], dtype=dtype, device=device, rng=np.random.default_rng(0)
        )
        epochs = 2 if SIMULATED else 5  # on a GPU, long enough to be recorded
        size = {"k": 3, "epochs": epochs, "batch": 4}
        run = mv.train(model, images, **size, progress=False, **settings)
        runs.append(run)
    host, there = runs
    np.testing.assert_allclose(there.history["bound"], host.history["bound"], 1e-5)
    host, there = (to_host(run.model.params.vector) for run in runs)
    np.testing.assert_allclose(there, host, rtol=1e-4, atol=1e-4)


def test_evaluation():
    images, results = np.random.default_rng(1).random((2, 9)), []
    for device in ("cpu", "cuda"):
        model = mv.VAE(9, *DEPTHS[1], device=device, rng=np.random.default_rng(0))
        results.append(mv.evaluate(model, images, k=25, progress=False).summary())
    host, there = results
    assert there["nll"] == pytest.approx(host["nll"], rel=1e-5)
    assert there["bounds"]["5"] == pytest.approx(host["bounds"]["5"], rel=1e-5)
