"""Splitting a batch among threads changes nothing but the order of a sum."""

import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import minivae as mv
from minivae.engine import threads
from minivae.engine.batching import shards
from minivae.engine.registry import bound_names
from minivae.gradcheck import examples


def model_and_batch(latent_dims=(3,), hidden_dims=((8,),), dtype=np.float64):
    rng = np.random.default_rng(0)
    model = mv.VAE(12, latent_dims, hidden_dims, dtype=dtype, rng=rng)
    x = (rng.random((31, 12)) < 0.5) * 1.0
    return model, x, model.draw_eps(31, 20, rng)


def on(n, function, *args, **settings):
    with threadpool_limits(n):
        assert threads.count() == n
        return function(*args, **settings)


def test_as_many_threads_as_the_blas_may_use():
    for n in (1, 2, 3):
        with threadpool_limits(n):
            # 31 images of 20 rows: shards of at least 64 rows
            assert len(shards(0, 31, 20)) == n
            assert len(shards(0, 6, 20)) == 1
            assert len(shards(0, 2, 1000)) == min(n, 2)
            assert len(shards(0, 31, 20, device="cuda")) == 1
            parts = shards(5, 36, 20)
            covered = [i for part in parts for i in range(part.start, part.stop)]
            assert covered == list(range(5, 36))


@pytest.mark.parametrize("bound", bound_names())
def test_the_gradient_on_three_threads(bound):
    model, x, eps = model_and_batch()
    args, options = (mv.bound_and_grad, model, x, eps, bound), examples(bound)
    one_value, one = on(1, *args, **options)
    value, grads = on(3, *args, **options)
    assert value == pytest.approx(one_value, rel=1e-13)
    np.testing.assert_allclose(grads.vector, one.vector, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backward", ["single", "sparse"])
def test_the_same_samples_are_kept(backward):
    model, x, eps = model_and_batch((3, 2), ((8,), (4,)))

    def subsampled():
        rng = np.random.default_rng(3)
        return mv.bound_and_grad(model, x, eps, backward=backward, rng=rng)[1].vector

    one = on(1, subsampled)
    np.testing.assert_allclose(on(3, subsampled), one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backward", ["all", "single", "sparse"])
def test_a_step_draws_the_same_noise_on_any_number_of_threads(backward):
    images, ends = np.random.default_rng(1).random((50, 12)), []
    settings = {"epochs": 2, "batch": 31, "backward": backward, "progress": False}
    for n in (1, 2, 3):
        model, _, _ = model_and_batch()
        on(n, mv.train, model, images, "iwae", 20, "dreg", **settings)
        ends.append(model.params.vector)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-9, atol=1e-12)


def test_twice_on_two_threads_is_the_same_to_the_last_bit():
    model, x, eps = model_and_batch(dtype=np.float32)
    first, second = (on(2, mv.bound_and_grad, model, x, eps) for _ in range(2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1].vector, second[1].vector)


def test_evaluation_and_log_weights_on_three_threads():
    model, x, eps = model_and_batch()
    log_w = on(1, model.log_weights, x, eps)
    np.testing.assert_allclose(on(3, model.log_weights, x, eps), log_w, rtol=1e-12)
    args, settings = (mv.evaluate, model, x * 0.5), {"k": 40, "progress": False}
    one, three = (on(n, *args, **settings) for n in (1, 3))
    assert three.nll == pytest.approx(one.nll, rel=1e-12)
    assert three.kl == pytest.approx(one.kl, rel=1e-12)
    np.testing.assert_allclose(three.sorted_weights, one.sorted_weights, rtol=1e-9)


def test_each_thread_computes_on_its_own():
    seen = threads.each(lambda part: threading.current_thread().name, [1, 2])
    assert seen[0] != seen[1]
    with threadpool_limits(3):
        libraries = threads.controller().lib_controllers
        limits = [library.get_num_threads for library in libraries]
        inside = threads.each(lambda part: [limit() for limit in limits], [1, 2])
        assert all(n == 1 for limits in inside for n in limits)
        assert threads.count() == 3  # as before


def test_other_threads_know_what_numpy_is_to_ignore():
    with np.errstate(over="raise"):
        results = threads.each(lambda part: np.geterr()["over"], [1, 2])
    assert results == ["raise", "raise"]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_on_any_thread_arrives(bad):
    done = []

    def work(part):
        if part == bad:
            raise ValueError(f"part {part}")
        done.append(part)

    with threadpool_limits(2):
        with pytest.raises(ValueError, match=f"part {bad}"):
            threads.each(work, [0, 1, 2])
        assert threads.count() == 2
    assert sorted(done) == [part for part in (0, 1, 2) if part != bad]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    threads.each(abs, [1, 2])
    child = os.fork()
    if child == 0:
        os._exit(threads.each(abs, [-1, -2]) != [1, 2])
    for _ in range(100):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        threading.Event().wait(0.1)
    else:
        os.kill(child, 9)
    assert done and status == 0
