"""Named arrays stay views of their vector, whatever is done with them."""

import copy
import pickle

import numpy as np
import pytest

import minivae as mv
from minivae.engine.params import Params


def small():
    return Params({"a": (2, 3), "b": (3,), "c": ()}, np.arange(10.0))


def assert_one_vector(params):
    whole = np.concatenate([array.ravel() for array in params.values()])
    np.testing.assert_array_equal(whole, params.vector)
    params.vector += 1
    whole = np.concatenate([array.ravel() for array in params.values()])
    np.testing.assert_array_equal(whole, params.vector)


def test_views_end_to_end():
    params = small()
    np.testing.assert_array_equal(params["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(params["b"], [6, 7, 8])
    assert_one_vector(params)


def test_assignment_writes_into_the_view():
    params = small()
    params["a"] = np.ones((2, 3))
    params["b"] += 2
    assert_one_vector(params)
    assert params["a"][0, 0] == 2 and params["b"][0] == 9
    with pytest.raises(ValueError):
        params["a"] = np.ones((3, 2))
    with pytest.raises(KeyError):
        params["d"] = np.ones(3)


ZEROS = {"a": np.zeros((2, 3)), "b": np.zeros(3), "c": 0.0}


@pytest.mark.parametrize(
    "write",
    [
        lambda params: params.update(ZEROS),
        lambda params: params.update(ZEROS.items()),
        lambda params: params.update(**ZEROS),
        lambda params: params.__ior__(ZEROS),
        lambda params: [params.__setitem__(*item) for item in ZEROS.items()],
        lambda params: setattr(params, "vector", np.zeros(10)),
        lambda params: [params.setdefault(name).fill(0) for name in ZEROS],
    ],
)
def test_every_way_to_write_goes_through_the_views(write):
    params = small()
    vector = params.vector
    write(params)
    assert params.vector is vector and not vector.any()
    assert_one_vector(params)


@pytest.mark.parametrize(
    "change",
    [
        lambda params: params.pop("a"),
        lambda params: params.pop("a", None),
        lambda params: params.popitem(),
        lambda params: params.clear(),
        lambda params: params.__delitem__("a"),
        lambda params: params.update(a=np.ones((2, 3)), d=np.ones(2)),
        lambda params: params.update(a=np.ones((2, 3)), b=np.ones(2)),
        lambda params: params.update({"a": np.ones(3)}),  # which would be repeated
        lambda params: params.__or__({"d": 1.0}),
        lambda params: params.__ior__({"d": 1.0}),
        lambda params: params.setdefault("d", np.ones(2)),
        lambda params: setattr(params, "vector", np.zeros(9)),
        lambda params: Params.fromkeys(params),
    ],
)
def test_what_would_break_the_layout_is_refused(change):
    params = small()
    with pytest.raises((TypeError, KeyError, ValueError)):
        change(params)
    assert list(params) == ["a", "b", "c"]
    np.testing.assert_array_equal(params.vector, np.arange(10))
    assert_one_vector(params)


def test_a_saved_best_stays_and_can_be_put_back():
    model = mv.VAE(6, (2,), ((3,),), rng=np.random.default_rng(0))
    best = model.params.copy()
    x, eps = np.ones((4, 6)), model.draw_eps(4, 2, np.random.default_rng(0))
    adam = mv.Adam(model.params)
    value, grads = mv.bound_and_grad(model, x, eps)
    adam.step(grads)
    assert (best.vector != model.params.vector).any()
    model.params.update(best)
    assert mv.bound_and_grad(model, x, eps)[0] == value
    adam.step(grads)  # which still reaches the model
    assert mv.bound_and_grad(model, x, eps)[0] > value


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        Params.copy,
        lambda p: pickle.loads(pickle.dumps(p)),
        lambda p: p | {},
    ],
)
def test_a_copy_has_a_vector_of_its_own(copied):
    params = small()
    other = copied(params)
    assert isinstance(other, Params) and list(other) == list(params)
    np.testing.assert_array_equal(other.vector, params.vector)
    assert_one_vector(other)
    np.testing.assert_array_equal(params.vector, np.arange(10))


def test_a_copied_model_trains_alone():
    model = mv.VAE(6, (2,), ((3,),), rng=np.random.default_rng(0))
    before = model.params.vector.copy()
    other = copy.deepcopy(model)
    x, eps = np.ones((4, 6)), other.draw_eps(4, 2, np.random.default_rng(0))
    mv.Adam(other.params).step(mv.bound_and_grad(other, x, eps)[1])
    assert (other.params["q1.mu.W"] != model.params["q1.mu.W"]).all()
    np.testing.assert_array_equal(model.params.vector, before)


def test_the_first_product_is_written_and_the_next_added():
    grads = Params({"W": (2, 2)}, np.full(4, np.nan), uninitialised=["W"])
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.eye(2)
    grads.add_product("W", np.matmul, a, b)
    np.testing.assert_array_equal(grads["W"], a)
    grads.add_product("W", np.matmul, a, b)
    np.testing.assert_array_equal(grads["W"], 2 * a)


def test_a_models_params_are_written_and_not_replaced():
    """So a model keeps its layout, and two models share nothing."""
    a, b = (mv.VAE(4, (2,), ((3,),), rng=seed) for seed in (0, 1))
    kept = a.params
    a.params = b.params
    assert a.params is kept and (kept.vector == b.params.vector).all()
    b.params.vector += 1
    assert (kept.vector != b.params.vector).any()
    for other in ({}, mv.VAE(4, (2,), ((3,),), "gaussian", rng=0).params):
        with pytest.raises(ValueError, match="of the same names and shapes"):
            a.params = other
