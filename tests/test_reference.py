"""The reference values, computed again by the one page that shares no code with them,
and by an oracle.
"""

import numpy as np
import pytest

import minivae as mv
from minivae import cli, minimal
from minivae.experiments import oracle
from minivae.reference import MODELS, reference_arrays


@pytest.fixture(scope="module")
def arrays():
    return reference_arrays()


def group(arrays, prefix):
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize("model", MODELS)
def test_log_weights_and_bounds(arrays, model):
    params, x = group(arrays, f"{model}/params/"), arrays[f"{model}/x"]
    z = oracle.draw(params, x, [*group(arrays, f"{model}/eps/").values()])
    log_w = oracle.log_p(params, x, z) - oracle.log_q(params, x, z)
    np.testing.assert_allclose(log_w, arrays[f"{model}/log_w"], rtol=1e-12)
    iwae = np.log(np.exp(log_w).mean(axis=1))
    np.testing.assert_allclose(arrays[f"{model}/bounds/iwae/value"], iwae, rtol=1e-12)
    for bound in mv.BOUNDS:
        c = arrays[f"{model}/bounds/{bound}/c"]
        np.testing.assert_allclose(c.sum(axis=1), 1)
        assert arrays[f"{model}/bounds/{bound}/dc"].shape == c.shape


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_gradients(arrays, bound):
    params, x = group(arrays, "one/params/"), arrays["one/x"]
    value, grads = minimal.bound_and_grad(
        params, x, arrays["one/eps/1"], getattr(minimal, bound)
    )
    assert value == pytest.approx(arrays[f"one/bounds/{bound}/value"].mean())
    found = group(arrays, f"one/gradients/{bound}/reparam/")
    assert found.keys() == grads.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(found[name], grad, rtol=1e-9, atol=1e-12)


def test_everything_is_there_and_explained(arrays):
    for model, layers in (("one", 1), ("two", 2)):
        pairs = {
            tuple(name.split("/")[:2]) for name in group(arrays, f"{model}/gradients/")
        }
        assert {pair for pair in pairs if pair[0] == "iwae"} == {
            ("iwae", estimator) for estimator in mv.ESTIMATORS
        }
        assert {bound for bound, _ in pairs} - {*mv.BOUNDS} == (
            {"elbo_kl"} if layers == 1 else set()
        )
    assert all(
        array.dtype == np.float64 for name, array in arrays.items() if name != "README"
    )
    for word in ("params/", "eps/", "log_w", "bounds/", "dc", "gradients/", "m = 2"):
        assert word in arrays["README"]


def test_the_command(tmp_path, capsys, arrays):
    path = tmp_path / "ref.npz"
    assert cli.main(["reference", "--out", str(path)]) == 0
    assert f"{len(arrays)} arrays: {path}" in capsys.readouterr().out
    with np.load(path) as file:
        assert set(file) == set(arrays) and str(file["README"]) == arrays["README"]
        for name in ("one/log_w", "two/gradients/iwae/dreg/q2.mu.W"):
            np.testing.assert_array_equal(file[name], arrays[name])
