"""Training and evaluation on device "cuda", with a stand-in for the GPU."""

import importlib
import inspect
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import standin

import minivae as mv
from minivae import evaluation, training
from minivae.check import TOLERANCE
from minivae.engine import batching, gpu, recording
from minivae.engine.registry import bound_names
from minivae.gradcheck import check_pieces, examples, small_model
from minivae.gradient import gradient
from minivae.kernels import matmul
from minivae.subsampling import kept_rows, subsample

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
DEPTHS = {1: ((3,), ((5,),)), 2: ((4, 3), ((6, 5), (4, 5)))}


@pytest.fixture(autouse=True)
def device(monkeypatch):
    standin.install(monkeypatch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", ["111", "513", "143", "741", "357"])
@pytest.mark.parametrize("columns", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("gap", [0, 2])
def test_matmul(dtype, sizes, columns, gap):
    """Factors in rows and in columns, end to end and with gaps; the result in new
    memory, and in old.
    """
    M, N, O = map(int, sizes)
    rng, factors = np.random.default_rng(0), []
    for (down, right), in_columns in zip(((M, N), (N, O)), columns):
        down, right = (right, down) if in_columns else (down, right)
        whole = standin.wrap(rng.standard_normal((down, right + gap)).astype(dtype))
        factor = whole[:, :right]
        factors.append(factor.T if in_columns else factor)
    a, b = factors
    expected = a.inside @ b.inside
    rtol = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(matmul.matmul_cuda(a, b).inside, expected, rtol)
    out = standin.wrap(np.full((M, O), np.nan, dtype))
    matmul.matmul_cuda(a, b, out)
    np.testing.assert_allclose(out.inside, expected, rtol)
    row = matmul.matmul_cuda(standin.wrap(np.array(a.inside[0])), b)
    np.testing.assert_allclose(row.inside, expected[0], rtol)


def models(dtype, depth=1, likelihood="bernoulli", seed=0):
    """The same model on both devices; the host's kernels are the stand-in's."""
    return [
        mv.VAE(
            9, *DEPTHS[depth], likelihood, dtype, rng=np.random.default_rng(seed),
            device=device, kernels=kernels,
        )
        for device, kernels in (("cpu", "numpy"), ("cuda", "cuda"))
    ]  # fmt: skip


def compare(host, there, rtol=1e-9):
    for name in host:
        want, got = host[name], there[name].inside
        np.testing.assert_allclose(got, want, rtol, rtol * np.abs(want).max())


CASES = [(bound, "reparam", "all") for bound in mv.BOUNDS]
CASES += [("iwae", estimator, "all") for estimator in mv.ESTIMATORS]
CASES += [("iwae", "dreg", backward) for backward in ("single", "sparse")]
CASES += [("vr", "reparam", "sparse"), ("iwae", "score", "sparse")]
CASES = [(*case, depth) for case in CASES for depth in (1, 2)]
CASES += [("elbo_kl", "reparam", "all", 1)]


def both_runs(depth=1, dtype=np.float64, likelihood="bernoulli", **settings):
    """A run on each device, with a short last step in each epoch."""
    images, runs = np.random.default_rng(1).random((20, 9)), []
    for model in models(dtype, depth, likelihood):
        data = {"images": images, "test_images": images[:6], "progress": False}
        runs.append(mv.train(model, **data, batch=8, k=4, tau=2.0, **settings))
    return runs


def assert_same(host, there, rtol=1e-9):
    for column in ("bound", "test_bound"):
        np.testing.assert_allclose(there.history[column], host.history[column], rtol)
    compare(host.model.params, there.model.params, rtol)


def numbers_of(step):
    """The host's numbers that a step uses: a recorded one would keep them."""
    outside = inspect.getclosurevars(step).nonlocals
    used = outside | outside["select"].keywords | vars(adam_of(step))
    used.pop("learning_rate")  # each step first sets its own
    numbers = {n: v for n, v in used.items() if isinstance(v, (int, float))}
    assert {"size", "growth", "epsilon"} <= numbers.keys()
    return numbers


def adam_of(step):
    return inspect.getclosurevars(step).nonlocals["training"].adam


@pytest.fixture
def steps(monkeypatch):
    """Every step that is to be recorded; the host must not look at a number in it, nor
    change one that it was recorded with.
    """
    seen = []

    def watched(step):
        recorded_with = []

        def call():
            recorded_with.append(numbers_of(step))
            assert recorded_with[-1] == recorded_with[0]
            before = [*standin.EVENTS]
            step()
            seen.append(standin.EVENTS[len(before) :])
            assert not seen[-1], f"the host waits for {seen[-1]}"
            assert isinstance(adam_of(step).learning_rate, standin.DeviceArray)

        return call

    monkeypatch.setattr(gpu, "recorded", watched)
    return seen


@pytest.mark.parametrize("bound, estimator, backward, depth", CASES)
def test_a_run_is_the_same_on_both(bound, estimator, backward, depth, steps):
    options = mv.ESTIMATORS["piwae"].examples() if estimator == "piwae" else {}
    options |= examples(bound)
    names = {"bound": bound, "estimator": estimator, "backward": backward}
    assert_same(*both_runs(depth, epochs=3, **names, **options))
    assert len(steps) == 9


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("backward", ["all", "sparse"])
@pytest.mark.parametrize("depth", [1, 2])
def test_products_as_late_as_can_be(monkeypatch, likelihood, backward, depth):
    """The second stream may take them only when the chain of the backward pass is done:
    nothing that they read has been written over by then.
    """
    late = []

    @contextmanager
    def products_aside(grads):
        if not isinstance(grads.vector, standin.DeviceArray):
            yield
            return
        waiting = []
        grads.aside = waiting.append
        yield
        del grads.aside
        late.extend(waiting)
        for product in waiting:
            product()

    monkeypatch.setattr(batching, "products_aside", products_aside)
    monkeypatch.setattr(batching, "GPU_CHUNK_ROWS", 16)  # two chunks
    assert_same(*both_runs(depth, likelihood=likelihood, epochs=1, backward=backward))
    assert len(late) > 10


def test_launches_of_a_step(monkeypatch):
    """A small one takes the device longer than what it computes: none is added without
    notice. 27 are products, seven of these for biases.
    """
    seen = []

    def counted(step):
        def call():
            standin.LAUNCHES.clear()
            step()
            seen.append([*standin.LAUNCHES])

        return call

    monkeypatch.setattr(gpu, "recorded", counted)
    model = mv.VAE(
        9, (3,), ((5, 4),), rng=np.random.default_rng(0), device="cuda", kernels="cuda"
    )
    images = np.random.default_rng(1).random((8, 9))
    mv.train(model, images, batch=8, k=4, epochs=1, progress=False)
    assert [name for name in seen[0] if name == "product"] == 27 * ["product"]
    assert len(seen[0]) == 76
    monkeypatch.syspath_prepend(BENCHMARKS)
    assert len(importlib.import_module("predict").step(100, 50)) == len(seen[0])


def test_the_model_that_is_timed_on_a_gpu(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    timed = importlib.import_module("gpu")
    assert (timed.X_DIM, timed.SHAPES) == (784, ((50,), ((200, 200),)))
    assert timed.WEIGHTS == 5000 and timed.SIZES[:2] == timed.COMPILED


@pytest.mark.parametrize("likelihood", ["bernoulli-grey", "gaussian"])
def test_other_likelihoods(likelihood, steps):
    assert_same(*both_runs(likelihood=likelihood, epochs=2))


def test_in_single_precision(steps):
    assert_same(*both_runs(dtype=np.float32, epochs=2, backward="sparse"), rtol=1e-4)


def test_stages(steps):
    host, there = both_runs(stages=[(1, 1e-2), (2, 1e-3)])
    assert_same(host, there)
    assert there.history["learning_rate"] == [1e-2, 1e-3, 1e-3]


def test_a_cosine_and_an_average(steps):
    """Each recorded step has its own learning rate."""
    host, there = both_runs(epochs=3, schedule="cosine", average=0.9)
    assert_same(host, there)
    compare(host.average, there.average)


def test_fixed_pixels(steps):
    assert_same(*both_runs(epochs=2, binarization="fixed"))


@pytest.mark.parametrize("backward", ["all", "single", "sparse"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_batch_in_several_chunks(monkeypatch, steps, backward, depth):
    """Of two images each on the device, where the host takes all eight at once."""
    monkeypatch.setattr(batching, "GPU_CHUNK_ROWS", 8)
    assert_same(*both_runs(depth, epochs=2, backward=backward))


@pytest.mark.parametrize("estimator", ["reparam", "score"])  # which has a baseline
def test_more_samples_kept_than_the_buffer_holds(monkeypatch, steps, estimator):
    """The epoch is taken again as on a host, and then the buffer holds twice as many:
    so often as it takes.
    """
    seen, run_epoch = [], training.run_epoch

    def too_few(B, K, *, backward, tau, growth):
        assert (backward, tau) == ("sparse", 2.0)
        seen.append(growth)
        return min(B * K, 2 * growth)

    def counting(training, epoch, rates, step_done):
        if training.model.device == "cuda":
            seen.append(f"epoch {epoch} again")
        return run_epoch(training, epoch, rates, step_done)

    monkeypatch.setattr(gpu, "capacity", too_few)
    monkeypatch.setattr(training, "run_epoch", counting)
    host, there = both_runs(epochs=4, backward="sparse", estimator=estimator)
    assert_same(host, there)
    assert seen[:5] == [1, 1, 1, "epoch 1 again", 2]
    assert seen[-3:] == [4, 4, 4]  # in the end it holds enough


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("depth", [1, 2])
def test_no_sample_kept(likelihood, depth):
    """Then p gets no gradient, and q what reaches it by score alone."""
    rng = np.random.default_rng(2)
    x, how = (rng.random((5, 9)) < 0.5) * 1.0, {"backward": "sparse", "tau": 1e300}
    host, there = models(np.float64, depth, likelihood)
    eps = host.draw_eps(5, 3, rng)
    grads = [
        mv.bound_and_grad(model, x, eps, estimator="rws", rng=rng, **how)[1]
        for model in (host, there)
    ]
    compare(*grads)
    for name, grad in grads[0].items():
        assert (grad == 0).all() == name.startswith("p"), name


@pytest.mark.parametrize("depth", [1, 2])
def test_rows_below_rounding_and_subnormals(depth):
    """Weights down to 1e-45: the device leaves out and sets to zero what the host does.
    A recorded step, whose number of rows is fixed, has zeros for what is left out.
    """
    rng, seen = np.random.default_rng(2), []
    x = np.eye(9, dtype=np.float32)
    host, there = models(np.float32, depth)
    eps = host.draw_eps(9, 100, rng)

    def spied(ops):
        real = ops.coefficients

        def coefficients(*arguments):
            results = real(*arguments)
            seen.append([getattr(array, "inside", array) for array in results])
            return results

        return coefficients

    grads = []
    fixed = partial(gpu.rows_of_capacity, backward="all", tau=0.1, growth=1)
    for model, select in ((host, kept_rows), (there, kept_rows), (there, fixed)):
        if select is kept_rows:
            model.params["p1.logits.W"][...] = 60 * model.params["p1.logits.W"]
            model.ops.coefficients = spied(model.ops)
        grads.append(model.params.zeros())
        on = model.to_device
        inputs = on(x), [on(e) for e in eps], mv.BOUNDS["iwae"], mv.ESTIMATORS["dreg"]
        gradient(model, *inputs, grads[-1], select=select)
    for (keep, *coefficients), on_there, recorded in zip(*[iter(seen)] * 3):
        assert 0 < keep.mean() < 0.5
        tiny = np.finfo(np.float32).tiny / np.finfo(np.float32).eps
        for array in coefficients:
            assert (np.abs(array[array != 0]) >= tiny).all()
        for other in (on_there, recorded):
            for got, want in zip(other, (keep, *coefficients)):
                np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
    for other in grads[1:]:
        compare(grads[0], other, 1e-4)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_step_in_which_no_row_counts(depth):
    """Products of no rows, of which CuPy says that all strides are zero."""

    def estimator(bound, log_w):
        value, c, _ = bound(log_w)
        return value, *(np.zeros_like(c) for _ in range(3))

    x, rng = np.eye(9)[:3], np.random.default_rng(0)
    for model in models(np.float64, depth):
        grads, on = model.params.zeros(), model.to_device
        eps = [rng.standard_normal((3, 2, L)) for L in model.latent_dims]
        bound = partial(mv.BOUNDS["iwae"], ops=model.ops)
        value = gradient(model, on(x), [on(e) for e in eps], bound, estimator, grads)
        values = [getattr(a, "inside", a) for a in (value, *grads.values())]
        assert np.isfinite(values[0]).all() and not any(map(np.any, values[1:]))


@pytest.mark.parametrize("counted", [0, 3, 4, 5, 12])
@pytest.mark.parametrize("most", [4, 12])
@pytest.mark.parametrize("put", [np.asarray, standin.wrap])
def test_rows_of_capacity(monkeypatch, counted, most, put):
    """Those that count come first and in order; one too many, and theta says so."""
    chosen = np.sort(np.random.default_rng(counted).choice(12, counted, replace=False))
    theta = np.zeros(12)
    theta[chosen] = 1
    theta = theta.reshape(3, 4)
    how = {"backward": "sparse", "tau": 0.1, "growth": 1}
    asked = []
    monkeypatch.setattr(
        gpu, "capacity", lambda *shape, **how: asked.append((shape, how)) or most
    )
    rows, marked = gpu.rows_of_capacity(put(theta != 0), put(theta), **how)
    assert asked == [((3, 4), how)] and not standin.EVENTS
    rows, marked = (getattr(a, "inside", a) for a in (rows, marked))
    if most == 12:
        assert rows == slice(None)
    else:
        assert len(set(rows)) == len(rows) == most
        np.testing.assert_array_equal(rows[:counted], chosen[: len(rows)])
    if most == 4 and counted > 4:
        assert np.isnan(marked).all()
    else:
        np.testing.assert_array_equal(marked, theta)


@pytest.mark.parametrize("growth, backward, B, K, most", [
    (1, "all", 100, 50, 5000),
    (1, "single", 100, 50, 100),
    (1, "sparse", 100, 50, 1190),
    (2, "sparse", 100, 50, 2380),
    (8, "sparse", 100, 50, 5000),
    (1, "sparse", 100, 5, 500),
])  # fmt: skip
def test_capacity(growth, backward, B, K, most):
    assert gpu.capacity(B, K, backward=backward, tau=0.1, growth=growth) == most


@pytest.mark.parametrize("estimator", ["reparam", "dreg", "piwae"])
def test_what_is_kept_is_within_the_capacity(estimator):
    """Of weights as uneven and as even as they come, in 2,000 batches."""
    rng, options = np.random.default_rng(0), {"m": 10} if estimator == "piwae" else {}
    how = {"backward": "sparse", "tau": 0.1}
    most = gpu.capacity(10, 50, growth=2 if estimator == "piwae" else 1, **how)
    rows_of = partial(mv.ESTIMATORS[estimator], **options)
    for scale in (0.1, 1, 10):
        log_w = scale * rng.standard_normal((20_000, 50))
        _, theta, path, _ = rows_of(mv.BOUNDS["iwae"], log_w)
        scale = subsample(theta, path, **how, uniform=rng.random(theta.shape))
        kept = (scale != 0).reshape(2_000, -1).sum(axis=1)
        assert kept.max() <= most


def test_the_first_nan_is_named_as_on_the_host(monkeypatch):
    """Its epoch, its step and its array, though the host looked an epoch later."""
    real, errors = training.sum_gradients, []

    def spoil(*args):
        values, grads = real(*args)
        bad = spoil.adam.t == 5  # the last step of epoch 2, also when it is taken again
        grads["p1.hidden1.W"][...] = np.where(bad, np.nan, grads["p1.hidden1.W"])
        return values, grads

    class Seen(mv.Adam):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            spoil.adam = self

    monkeypatch.setattr(training, "sum_gradients", spoil)
    monkeypatch.setattr(training, "Adam", Seen)
    images = np.random.default_rng(1).random((20, 9))
    for model in models(np.float64):
        with pytest.raises(mv.NonFiniteError) as error:
            mv.train(model, images, k=4, epochs=3, batch=8, progress=False)
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert errors[0].startswith("epoch 2, step 3: NaN or infinity in the gradient of")


def test_from_one_device_to_the_other(tmp_path):
    """A run that began on one is resumed on the other, both ways."""
    images = np.random.default_rng(1).random((20, 9))
    settings = {"k": 4, "batch": 8, "estimator": "score", "progress": False}
    whole, _ = models(np.float64)
    mv.train(whole, images, epochs=3, **settings)
    for first in (0, 1):
        folder, pair = tmp_path / str(first), models(np.float64)
        one, other = pair[first], models(np.float64, seed=7)[1 - first]
        mv.train(one, images, epochs=1, folder=folder, **settings)
        mv.train(other, images, epochs=3, folder=folder, **settings)
        params = other.params if first == 1 else mv.load_run(folder).model.params
        for name in params:
            np.testing.assert_allclose(params[name], whole.params[name], 1e-9, 1e-12)
        assert type(mv.load_run(folder).model.params.vector) is np.ndarray
        loaded = mv.load_run(folder, device="cuda").model
        assert isinstance(loaded.params.vector, standin.DeviceArray)
        compare(params, loaded.params)


@pytest.mark.parametrize("depth", [1, 2])
def test_what_a_model_can_do(depth):
    """NumPy in, NumPy out, and the same as on the host."""
    host, there = models(np.float64, depth)
    rng = np.random.default_rng(2)
    x = (rng.random((5, 9)) < 0.5) * 1.0
    eps, z = host.draw_eps(5, 3, rng), rng.standard_normal((4, host.latent_dims[0]))
    for do in (
        lambda model: model.log_weights(x, eps),
        lambda model: model.encode(x)[1],
        lambda model: model.decode(z),
        lambda model: model.sample(3, np.random.default_rng(3)),
        lambda model: mv.bound_and_grad(model, x, eps)[0],
    ):
        got, want = do(there), do(host)
        assert not isinstance(got, standin.DeviceArray)
        np.testing.assert_allclose(got, want, rtol=1e-11)
    compare(*(mv.bound_and_grad(model, x, eps)[1] for model in (host, there)))


@pytest.mark.parametrize("depth", [1, 2])
def test_evaluation(depth, monkeypatch):
    """Two blocks of images, and a k that no block of samples divides. A whole block of
    samples can be recorded: in it the host looks at no number.
    """
    calls = []

    def watched(step):
        def call():
            before = len(standin.EVENTS)
            step()
            calls.append(standin.EVENTS[before:])

        return call

    monkeypatch.setattr(recording, "recorded", watched)
    monkeypatch.setitem(evaluation.IMAGES, "cuda", 12)
    images = np.random.default_rng(1).random((20, 9))
    host, there = (
        mv.evaluate(model, images, k=50, progress=False).summary()
        for model in models(np.float64, depth)
    )
    flat = [*host.pop("bounds").values()], [*there.pop("bounds").values()]
    np.testing.assert_allclose(*flat, rtol=1e-11)
    for key, value in host.items():
        if key != "unit_variances":
            assert there[key] == pytest.approx(value, rel=1e-9)
    assert calls == [[]] * 4  # 2 blocks of images, 20 and 20 samples


def test_gradients_of_the_pieces():
    for check in check_pieces("cuda"):
        assert check.error <= TOLERANCE, check


@pytest.mark.parametrize(
    "bound, depth", [(bound, 1) for bound in bound_names()] + [("iwae", 2)]
)
def test_gradients(bound, depth):
    model, x, eps = small_model("cuda", *DEPTHS[depth], k=4)
    for check in mv.check_gradients(model, x, eps, bound, **examples(bound)):
        assert check.error <= TOLERANCE, check


def test_a_mix_of_host_and_device_is_refused():
    """As CuPy does: or the stand-in would let pass what a GPU would not."""
    there = standin.wrap(np.ones(3))
    for mix in (
        lambda: there + np.ones(3),
        lambda: np.concatenate([there, np.ones(3)]),
        lambda: np.asarray(there),
        lambda: there[np.arange(2)],
        lambda: np.logaddexp.accumulate(there),
        lambda: there.__setitem__(slice(None), np.ones(3)),
    ):
        with pytest.raises(TypeError):
            mix()
