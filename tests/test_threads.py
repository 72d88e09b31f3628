"""Splitting a batch among threads changes nothing but the order of a sum."""

import os
import threading
from functools import partial

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_another_threads_step():
    """During which the BLAS is at one thread, and its own handler of forks may hang."""
    begun, done = threading.Event(), []

    def work(part):
        begun.set()
        threading.Event().wait(0.2)
        done.append(part)

    with threadpool_limits(2):
        other = threading.Thread(target=threads.each, args=(work, [1, 2]))
        other.start()
        assert begun.wait(30)
        child = os.fork()
        if child == 0:
            limits = [
                lib.get_num_threads() for lib in threads.controller().lib_controllers
            ]
            os._exit(threads.count() != 2 or set(limits) != {2})
        assert len(done) == 2
        other.join()
        assert os.waitpid(child, 0)[1] == 0
        assert threads.count() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_step_may_fork():
    """It does not wait for itself."""

    def work(part):
        child = os.fork()
        if child == 0:
            os._exit(0)
        return os.waitpid(child, 0)[1]

    with threadpool_limits(2):
        assert threads.each(work, [1]) == [0]
        assert threads.each(abs, [-1, -2]) == [1, 2]


def test_bits_do_not_depend_on_another_threads_step():
    """Small batches, on which the BLAS may use all cores, beside large ones, during
    which it may not.
    """
    model = mv.VAE(784, rng=np.random.default_rng(0))
    x = (np.random.default_rng(1).random((20, 784)) < 0.2) * np.float32(1)
    small, large = (model.draw_eps(20, k, np.random.default_rng(2)) for k in (5, 50))

    def compute():
        grads = mv.bound_and_grad(model, x, small)[1]
        return [grads.vector, *model.encode(x), model.decode(small[0][0])]

    def beside():
        while not done.is_set():
            mv.bound_and_grad(model, x, large)

    with threadpool_limits(2):
        alone, done = compute(), threading.Event()
        other = threading.Thread(target=beside)
        other.start()
        try:
            for _ in range(10):
                for array, expected in zip(compute(), alone):
                    np.testing.assert_array_equal(array, expected)
        finally:
            done.set()
            other.join()


def test_with_one_core_each_pythons_threads_run_side_by_side():
    meet = threading.Barrier(2, timeout=30)
    with threadpool_limits(1):
        both = [
            threading.Thread(target=threads.each, args=(lambda part: meet.wait(), [0]))
            for _ in range(2)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert not meet.broken


def test_a_computation_within_another_stays_on_its_thread():
    def outer(part):
        assert threads.count() == 1
        return threads.each(lambda inner: (part, inner), [0, 1])

    with threadpool_limits(2):
        assert threads.each(outer, [0, 1]) == [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]


def test_a_blas_that_threadpoolctl_does_not_know(monkeypatch):
    class Nothing:
        lib_controllers = ()

    monkeypatch.setattr(threads, "controller", Nothing)
    monkeypatch.setattr(threads, "threadpool_limits", lambda n: None)
    monkeypatch.setattr(threads, "ASKED", [])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads.count() == os.cpu_count()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.count() == 3
    threads.ask_for(5)
    assert threads.count() == 5


def test_a_run_resumed_with_another_number_of_threads(tmp_path):
    images = np.random.default_rng(1).random((50, 12))

    def run(n, epochs):
        model, _, _ = model_and_batch()
        settings = {"k": 3, "epochs": epochs, "folder": tmp_path, "progress": False}
        return on(n, mv.train, model, images, **settings)

    assert run(2, 1).config["threads"] == 2
    run(2, 2)  # in silence
    words = "begun with 2 threads, resumed with 1: the bits will differ"
    with pytest.warns(UserWarning, match=words):
        assert run(1, 3).config["threads"] == 1


def test_a_finished_run_goes_on_saying_how_it_was_trained(tmp_path):
    images = np.random.default_rng(1).random((50, 12))

    def run(n):
        model, _, _ = model_and_batch()
        settings = {"k": 3, "epochs": 1, "folder": tmp_path, "progress": False}
        on(n, mv.train, model, images, **settings)
        return (tmp_path / "config.json").read_text()

    trained = run(2)
    assert run(1) == trained  # and no warning of bits that differ


def test_intended_underflow_is_no_error_of_a_caller_who_raises():
    model, x, eps = model_and_batch(dtype=np.float32)
    numpy = mv.VAE(12, (3,), ((8,),), rng=np.random.default_rng(0), kernels="numpy")
    tiny = np.full((2, 3), 1e-38, np.float32)
    with np.errstate(all="raise"):
        for m in (model, numpy):
            m.params["p1.logits.W"][...] *= 1e3
            mv.bound_and_grad(m, x, eps)
            m.log_weights(x, eps)
            m.encode(x)
            m.decode(tiny)
            m.sample(3, np.random.default_rng(0))
            settings = {"k": 20, "epochs": 2, "progress": False}
            mv.train(m, x * 0.5, learning_rate=1e-4, test_images=x * 0.5, **settings)
            mv.evaluate(m, x * 0.5, k=40, progress=False)
            adam, grads = mv.Adam(m.params, kernels=m.ops.name), m.params.zeros()
            grads.vector[:] = 1e-30
            adam.step(grads)
        log_w = np.array([[0.0, -1e4, -700.0, -400.0]])
        for bound in mv.BOUNDS:
            value = partial(mv.BOUNDS[bound], **examples(bound))
            value(log_w)
            for entry in mv.ESTIMATORS.values():
                if entry.only_for in (None, bound):
                    entry(value, log_w, **entry.examples())
        assert np.geterr()["under"] == "raise"
