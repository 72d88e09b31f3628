"""Training: pinned losses, runs that are killed and resumed, and runs that fail."""

import _thread
import inspect
import io
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pytest
from scipy.special import logsumexp
from tqdm import tqdm

import minivae as mv
from minivae import estimators, training
from minivae.engine import files
from minivae.engine.interrupt import interruptible
from minivae.engine.noise import draw_eps, generator
from minivae.experiments import oracle
from minivae.kernels import load_ops


def tiny(seed=0, **settings):
    model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(seed), **settings)
    images = np.random.default_rng(1).random((50, 9))
    return model, images


def quick(model, images, **settings):
    return mv.train(
        model, images, **{"k": 3, "batch": 8, "epochs": 3, "progress": False} | settings
    )


def assert_same_params(a, b):
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])


# Ten steps of the paper's architecture in float64: batch 20, k = 5, Adam 1e-3, the
# first 200 training images
PINNED = {
    "elbo": [
        -204.941494129753,
        -218.475682983705,
        -207.29848212054,
        -212.196861696389,
        -211.884681076101,
        -218.694209400863,
        -208.386674705062,
        -199.583930482301,
        -200.752401713288,
        -215.610804910885,
    ],
    "iwae": [
        -198.075654172699,
        -213.442231591409,
        -203.885953095218,
        -209.001424578079,
        -208.74296221931,
        -217.316688059995,
        -205.584262292286,
        -197.991930182997,
        -198.376274141562,
        -212.356617969612,
    ],
    "elbo_kl": [
        -204.509295085401,
        -218.071926854763,
        -206.191590837789,
        -211.851282975049,
        -210.766266274261,
        -218.373669306225,
        -207.914078788885,
        -199.608366623963,
        -200.648719862256,
        -214.001883866091,
    ],
}


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("bound", PINNED)
def test_ten_steps_are_pinned(kernels, bound):
    images = mv.load("mnist").train_images[:200].astype(np.float64)
    model = mv.VAE(
        784,
        dtype=np.float64,
        rng=np.random.default_rng(0),
        x_mean=images.mean(axis=0),
        kernels=kernels,
    )
    adam = mv.Adam(model.params, learning_rate=1e-3, kernels=kernels)
    losses = []
    for step in range(10):
        rng = np.random.default_rng(step)
        x = mv.binarize(images[20 * step : 20 * step + 20], rng)
        value, grads = mv.bound_and_grad(model, x, model.draw_eps(20, 5, rng), bound)
        adam.step(grads)
        losses.append(value)
    np.testing.assert_allclose(losses, PINNED[bound], rtol=1e-10)


def test_the_bound_rises():
    model, _ = tiny()
    images = np.tile([[0.9] * 3 + [0.1] * 6, [0.1] * 6 + [0.9] * 3], (25, 1))
    bound = quick(model, images, epochs=60, learning_rate=1e-2).history["bound"]
    assert bound[-1] > bound[0] + 1 and np.mean(bound[-10:]) > np.mean(bound[10:20])


def test_history_and_files(tmp_path):
    model, images = tiny()
    run = quick(model, images, folder=tmp_path / "run", test_images=images[:20])
    assert list(run.history) == [
        "epoch",
        "learning_rate",
        "bound",
        "test_bound",
        "seconds",
    ]
    assert run.history["epoch"] == [1, 2, 3]
    lines = (tmp_path / "run/metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,learning_rate,bound,test_bound,seconds"
    assert [float(line.split(",")[2]) for line in lines[1:]] == run.history["bound"]
    loaded = mv.load_run(tmp_path / "run")
    assert_same_params(loaded.model, model)
    assert loaded.history == run.history and loaded.config == run.config
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        "metrics.csv",
        "checkpoint.npz",
    }


def test_what_the_history_and_the_bar_say(monkeypatch, tmp_path):
    """The mean bound of the epoch's images, how long it took, and how many are done."""
    real, values, bars = training.step_gradient, [], []

    def step(setting, indices, *args):
        value, grads = real(setting, indices, *args)
        values.append(len(indices) * float(value))
        return value, grads

    def bar(show, **settings):
        bars.append(tqdm(**settings, file=io.StringIO()))
        return bars[0]

    monkeypatch.setattr(training, "step_gradient", step)
    monkeypatch.setattr(training, "progress_bar", bar)
    start = time.perf_counter()
    run = quick(*tiny())
    whole = time.perf_counter() - start
    means = [sum(epoch) / 50 for epoch in np.split(np.array(values), 3)]
    np.testing.assert_allclose(run.history["bound"], means, rtol=1e-12)
    assert min(run.history["seconds"]) > 0 and sum(run.history["seconds"]) < whole
    assert bars[0].n == bars[0].total == 150
    assert (bars[0].unit, bars[0].unit_scale) == ("img", True)
    quick(*tiny(), folder=tmp_path, epochs=1)
    bars.clear()
    quick(*tiny(), folder=tmp_path, epochs=2)
    assert (bars[0].initial, bars[0].n) == (50, 100)


def test_ctrl_c_in_the_last_step_of_an_epoch_keeps_it(tmp_path, monkeypatch):
    real = training.take_step

    def press(setting, grads, rate):
        if setting.adam.t == 13:
            signal.raise_signal(signal.SIGINT)
        return real(setting, grads, rate)

    monkeypatch.setattr(training, "take_step", press)
    words = "stopped after epoch 2; which is kept"
    with pytest.raises(KeyboardInterrupt, match=words) as stop:
        quick(*tiny(), folder=tmp_path)
    assert stop.value.run.history["epoch"] == [1, 2]
    assert mv.load_run(tmp_path).history["epoch"] == [1, 2]


def test_sparse_on_the_elbo_warns_its_caller():
    model, images = tiny()
    how = {"epochs": 1, "backward": "sparse", "progress": False}
    call = compile("mv.train(model, images, 'elbo', 2, **how)", "the caller", "eval")
    with pytest.warns(UserWarning, match="count alike") as warned:
        eval(call, {"mv": mv, "model": model, "images": images, "how": how})
    assert warned[0].filename == "the caller"


def test_the_test_bound_is_of_the_first_thousand():
    model, images = tiny()
    others = np.random.default_rng(2).random((1001, 9))
    few = {"epochs": 1, "learning_rate": 1e-30}
    run = quick(model, images, test_images=others, **few)
    same = quick(*tiny(), test_images=others[:1000], **few)
    assert run.history["test_bound"] == same.history["test_bound"]
    assert run.config["test_images"] == 1000


@pytest.mark.parametrize("bound", ["iwae", "elbo"])
def test_the_test_bound_is_the_bound_of_the_test_images(bound):
    """Binarised once, with the same eps after every epoch, in SciPy's words."""
    model, images = tiny()
    others = np.random.default_rng(2).random((7, 9))
    few = {"bound": bound, "epochs": 2, "learning_rate": 1e-30, "seed": 5}
    run = quick(model, images, test_images=others, **few)
    x = mv.binarize(others, generator(5, 0, 1))
    eps = draw_eps(model, 5, epoch=0, step=0, images=slice(0, 7), k=3)
    z = oracle.draw(model.params, x, eps)
    log_w = oracle.log_p(model.params, x, z) - oracle.log_q(model.params, x, z)
    value = log_w if bound == "elbo" else logsumexp(log_w, axis=1, b=1 / 3)
    np.testing.assert_allclose(run.history["test_bound"], value.mean(), rtol=1e-5)


def test_defaults_are_those_of_the_help_texts():
    def defaults(function):
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    adam = defaults(mv.Adam)
    assert adam["learning_rate"] == 1e-3
    model, _ = tiny()
    assert mv.Adam(model.params).ops.name == model.ops.name == "numba"
    assert [adam[name] for name in ("beta1", "beta2", "epsilon")] == [0.9, 0.999, 1e-8]
    train = defaults(mv.train)
    assert (train["bound"], train["k"], train["estimator"]) == ("iwae", 50, "reparam")
    assert (train["epochs"], train["batch"], train["learning_rate"]) == (20, 100, 1e-3)
    assert (train["epsilon"], train["schedule"], train["seed"]) == (1e-8, "constant", 0)
    assert train["backward"] == defaults(mv.bound_and_grad)["backward"] == "all"
    assert train["tau"] == defaults(mv.bound_and_grad)["tau"] == 0.1
    vae = defaults(mv.VAE)
    assert (vae["latent_dims"], vae["hidden_dims"]) == ((50,), ((200, 200),))
    assert vae["likelihood"] == "bernoulli" and defaults(mv.VAE.bound)["k"] == 50


def test_ctrl_c_is_answered(capsys):
    with interruptible() as pressed:
        os.kill(os.getpid(), signal.SIGINT)
        assert pressed()
    assert "stopping soon; Ctrl-C again stops at once" in capsys.readouterr().err


def test_stages_and_presets():
    model, images = tiny()
    run = quick(model, images, stages=[(1, 1e-2), (2, 1e-3)])
    assert run.history["learning_rate"] == [1e-2, 1e-3, 1e-3]
    for name, epochs in {"burda": 3280, "short": 121}.items():
        assert sum(n for n, _ in mv.PRESETS[name]["stages"]) == epochs
    assert mv.PRESETS["burda"]["stages"][7] == (2187, pytest.approx(1e-4))
    assert mv.PRESETS["short"]["stages"][4] == (81, pytest.approx(1e-4))


def test_binarization():
    """Fixed: the same picture in every epoch. Dynamic: not."""
    finals = {}
    for binarization in ("dynamic", "fixed"):
        model, images = tiny()
        quick(model, images, binarization=binarization)
        finals[binarization] = model.params["q1.mu.b"].copy()
    assert (finals["dynamic"] != finals["fixed"]).any()
    model, images = tiny()
    quick(model, mv.binarize(images, generator(0, 0, 0)), binarization="fixed")
    np.testing.assert_array_equal(model.params["q1.mu.b"], finals["fixed"])


def test_every_image_is_seen_once_an_epoch(monkeypatch):
    """50 images at batch 8: seven steps, the last of two images."""
    seen, values = [], []
    real_gradient, real_step = training.add_gradient, training.step_gradient

    def gradient_spy(objective, model, x, **inputs):
        seen.append(x)
        return real_gradient(objective, model, x, **inputs)

    def step_spy(*args):
        value, grads = real_step(*args)
        values.append(value)
        return value, grads

    monkeypatch.setattr(training, "add_gradient", gradient_spy)
    monkeypatch.setattr(training, "step_gradient", step_spy)
    model, images = tiny()
    images = mv.binarize(images, np.random.default_rng(0))
    history = quick(model, images, epochs=2).history
    means = [np.average(v, weights=[8] * 6 + [2]) for v in (values[:7], values[7:])]
    np.testing.assert_allclose(history["bound"], means, rtol=1e-14)
    assert [len(x) for x in seen] == [8, 8, 8, 8, 8, 8, 2] * 2
    first, second = np.concatenate(seen[:7]), np.concatenate(seen[7:])
    by_row = [sorted(map(tuple, x)) for x in (first, second, images)]
    assert by_row[0] == by_row[1] == by_row[2]
    assert (first != second).any()


def test_streams_differ():
    draws = [
        generator(*key).random()
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 0)]
    ]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    "settings", [{}, {"binarization": "fixed"}, {"bound": "elbo_kl"}]
)
def test_resume_is_bit_for_bit(tmp_path, settings):
    whole, images = tiny()
    history = quick(whole, images, epochs=4, **settings).history
    for done in (1, 3):
        first, _ = tiny()
        quick(first, images, epochs=done, folder=tmp_path / str(done), **settings)
        # its first weights do not matter: the checkpoint's count
        resumed, _ = tiny(seed=5)
        folder = tmp_path / str(done)
        again = quick(resumed, images, epochs=4, folder=folder, **settings).history
        assert_same_params(resumed, whole)
        assert again["bound"] == history["bound"]
    finished, _ = tiny(seed=6)  # nothing is left to do
    quick(finished, images, epochs=4, folder=tmp_path / "3", **settings)
    assert_same_params(finished, whole)


def test_a_folder_with_another_run_is_refused(tmp_path):
    model, images = tiny()
    quick(model, images, folder=tmp_path)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    message = "other settings .k was 3, is 4.: choose another folder"
    with pytest.raises(ValueError, match=message):
        quick(model, images, folder=tmp_path, k=4)
    with pytest.raises(ValueError, match="3 epochs at other learning rates"):
        quick(model, images, folder=tmp_path, learning_rate=0.5)
    with pytest.raises(ValueError, match="holds 3 epochs already, not 2"):
        quick(model, images, folder=tmp_path, epochs=2)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


DAMAGED = "damaged, or not a checkpoint"


@pytest.mark.parametrize(
    "file, damage, message",
    [
        ("checkpoint.npz", lambda raw: raw[: len(raw) // 2], DAMAGED),
        ("checkpoint.npz", lambda raw: b"", DAMAGED),
        ("checkpoint.npz", lambda raw: raw[:2000] + bytes(500) + raw[2500:], DAMAGED),
        ("config.json", lambda raw: raw[:-20], "not readable JSON"),
        ("config.json", lambda raw: b"{}", "not a run's settings"),
        (
            "config.json",
            lambda raw: raw.replace(b'"x_dim": 9', b'"x_dim": 8'),
            "must be float32 .8, 6.; got float32 .9, 6.",
        ),
    ],
)
def test_damaged_runs_are_refused_by_name(tmp_path, file, damage, message):
    model, images = tiny()
    quick(model, images, epochs=1, folder=tmp_path)
    path = tmp_path / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        mv.load_run(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_nothing_is_unpickled(tmp_path):
    model, images = tiny()
    quick(model, images, epochs=1, folder=tmp_path)
    with np.load(tmp_path / "checkpoint.npz") as file:
        arrays = dict(file)
    arrays["params/q1.mu.b"] = np.array([{"a": 1}, 2], object)
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    with pytest.raises(ValueError, match=DAMAGED):
        mv.load_run(tmp_path)


def test_load_run_of_nothing(tmp_path):
    message = "no run with a checkpoint is here; `minivae train"
    with pytest.raises(FileNotFoundError, match=message):
        mv.load_run(tmp_path)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_the_first_nan_stops_the_run(tmp_path, kernels):
    model, images = tiny(kernels=kernels)
    quick(model, images, epochs=1, folder=tmp_path)
    good = (tmp_path / "checkpoint.npz").read_bytes()
    message = "epoch 2, step [1-7]: NaN or infinity in (the|parameter)"
    with pytest.raises(mv.NonFiniteError, match=message):
        quick(model, images, stages=[(1, 1e-3), (5, 1e30)], folder=tmp_path)
    assert (tmp_path / "checkpoint.npz").read_bytes() == good


def test_the_nan_is_named(monkeypatch):
    real, calls = training.step_gradient, []

    def spoiled(*args):
        value, grads = real(*args)
        calls.append(1)
        if len(calls) == 9:  # the second step of epoch 2
            grads["p1.hidden1.W"][1, 2] = np.inf
            grads["p1.logits.b"][0] = np.nan
        return value, grads

    monkeypatch.setattr(training, "step_gradient", spoiled)
    with pytest.raises(mv.NonFiniteError) as error:
        quick(*tiny())
    first = "epoch 2, step 2: NaN or infinity in the gradient of p1.hidden1.W"
    assert str(error.value).startswith(first)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_gradient_whose_square_overflows_is_seen(kernels):
    """Adam would never move that parameter again."""
    model, _ = tiny()
    grads, adam = model.params.zeros(), mv.Adam(model.params, kernels=kernels)
    grads["p1.logits.b"][3] = 1e18
    assert adam.step(grads)
    grads["p1.logits.b"][3] = 1e30
    with np.errstate(over="ignore"):
        assert not adam.step(grads)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_run_stops_at_the_step_that_a_checkpoint_could_not_hold(tmp_path, kernels):
    """And before the first step it is not the learning rate's fault."""
    settings = {"likelihood": "gaussian", "x_sigma": 1e-12, "kernels": kernels}
    with pytest.raises(mv.NonFiniteError) as error:
        quick(*tiny(**settings), folder=tmp_path, learning_rate=1e-3)
    words = (
        "epoch 1, step 1: NaN or infinity in the mean square of the gradient of q1.",
        "; no step was taken before it, so something is out of scale: the images lie",
        "in [0.00",
        "x_sigma is 1e-12, and no parameter exceeds",
    )
    assert all(word in str(error.value) for word in words), error.value
    assert "learning rate" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_step_that_was_too_large_is_the_learning_rates_fault():
    """The only one of its epoch, too."""
    model, images = tiny()
    with pytest.raises(mv.NonFiniteError, match="parameter .* a lower learning rate"):
        quick(model, images, batch=len(images), epsilon=1e-30, learning_rate=1e39)


def test_a_spoiled_parameter_is_never_kept(monkeypatch, tmp_path):
    """The last step of an epoch may break a parameter: seen before it is saved."""
    real = mv.Adam.step

    def spoil(adam, grads):
        finite = real(adam, grads)
        if adam.t == 14:  # the last step of epoch 2
            adam.params["q1.mu.b"][0] = np.nan
        return finite

    monkeypatch.setattr(mv.Adam, "step", spoil)
    message = "epoch 2, step 7: .* parameter q1.mu.b"
    with pytest.raises(mv.NonFiniteError, match=message):
        quick(*tiny(), folder=tmp_path)
    assert mv.load_run(tmp_path).history["epoch"] == [1]


SCRIPT = """
import sys, numpy as np, minivae as mv
rng = np.random.default_rng(0)
model = mv.VAE(9, (2,), ((6,),), rng=rng)
images = np.random.default_rng(1).random((400, 9))
settings = {"k": 3, "batch": 8, "epochs": int(sys.argv[2]), "progress": False}
print("ready", flush=True)
mv.train(model, images, folder=sys.argv[1], **settings)
print("done", flush=True)
"""


def start(folder, epochs):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(epochs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def final_params(folder):
    with np.load(folder / "checkpoint.npz") as file:
        return {key: file[key] for key in file if not key.startswith("history/seconds")}


@pytest.mark.parametrize(
    "epoch, kept",
    [(1, "nothing is kept"), (2, "1 epoch is kept"), (3, "2 epochs are kept")],
)
def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch, epoch, kept):
    real = training.step_gradient

    def step(setting, indices, *when):
        if when == (epoch, 2):
            _thread.interrupt_main()
        return real(setting, indices, *when)

    monkeypatch.setattr(training, "step_gradient", step)
    words = f"stopped in epoch {epoch} after 16 of 50 images; {kept}"
    with pytest.raises(KeyboardInterrupt, match=words):
        quick(*tiny(), folder=tmp_path)


def test_ctrl_c_keeps_the_last_epoch(tmp_path):
    process = start(tmp_path, 100_000)
    while not (tmp_path / "metrics.csv").is_file():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert re.search(r"KeyboardInterrupt: stopped (in|after) epoch .* kept", errors)
    epochs = len((tmp_path / "metrics.csv").read_text().splitlines()) - 1
    assert mv.load_run(tmp_path).history["epoch"] == list(range(1, epochs + 1))
    assert not list(tmp_path.glob("*.tmp"))


def kill_and_resume(folder, epochs, delays):
    """Kill -9 after each delay, counted from when training starts; then let it end."""
    for delay in delays:
        process = start(folder, epochs)
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.communicate()
    process = start(folder, epochs)
    output, errors = process.communicate(timeout=300)
    assert output.endswith("done\n"), errors


def test_kill_9_and_resume_is_bit_for_bit(tmp_path):
    kill_and_resume(tmp_path / "whole", 20, [])
    kill_and_resume(tmp_path / "killed", 20, [0.35])
    whole, killed = final_params(tmp_path / "whole"), final_params(tmp_path / "killed")
    for key in whole:
        np.testing.assert_array_equal(killed[key], whole[key])


def test_two_threads_at_once():
    """Each has its own arrays, and both the same products."""
    import threading

    model, images = tiny()
    x = mv.binarize(images[:20], np.random.default_rng(0))
    eps = model.draw_eps(20, 50, np.random.default_rng(0))
    expected, results = mv.bound_and_grad(model, x, eps)[0], []

    def work():
        results.extend(mv.bound_and_grad(model, x, eps)[0] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 40


def test_no_folder_to_cache_compiled_kernels_in(tmp_path):
    """Then they are compiled anew in each process, and nothing else changes."""
    code = (
        "import numba\n"
        "def njit(*args, cache=False, **settings):\n"
        "    if cache: raise RuntimeError('no locator available')\n"
        "    return real(*args, **settings)\n"
        "real, numba.njit = numba.njit, njit\n"
        "import numpy as np\n"
        "from minivae.kernels import load_ops\n"
        "print(load_ops('numba').tanh(np.zeros((1, 1)), np.zeros(1))[0, 0])\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.strip() == "0.0", result.stderr


def test_a_checkpoint_without_its_settings_is_refused(tmp_path):
    model, images = tiny()
    quick(model, images, folder=tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="a checkpoint without its config"):
        quick(model, images, folder=tmp_path, k=5)


def test_settings_do_not_bind_before_there_is_a_checkpoint(tmp_path):
    model, images = tiny()
    quick(model, images, folder=tmp_path, epochs=1)
    (tmp_path / "checkpoint.npz").unlink()
    quick(model, images, folder=tmp_path, k=5)
    assert mv.load_run(tmp_path).config["k"] == 5


def test_only_what_differs_is_said(tmp_path):
    model, images = tiny()
    quick(model, images, folder=tmp_path)
    other = mv.VAE(9, (3,), ((6,),), rng=np.random.default_rng(0))
    with pytest.raises(ValueError) as error:
        quick(other, images, folder=tmp_path)
    assert "(latent_dims was [2], is [3])" in str(error.value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("epoch", np.int64(7), "not that of 7 epochs"),
        ("adam_t", np.float64(3), "adam_t must be int64"),
        ("params/q1.mu.b", np.full(2, np.nan, np.float32), "holds NaN or infinity"),
        ("params/q1.mu.b", np.array([b"1", b"2"]), "must be float32"),
        ("history/learning_rate", None, "not that of 3 epochs"),
        ("params/q1.mu.b", None, "got no such array"),
        ("history/bound", np.array(["a", "b", "c"]), "its history is not that of 3"),
        ("history/bound", np.full(3, 1j), "its history is not that of 3 epochs: bound"),
        ("history/bound", np.array([1, np.nan, 1]), "bound holds NaN or infinity"),
        ("history/epoch", np.array([1, 7, 9]), "of the epochs [1, 7, 9]"),
        ("history/seconds", np.zeros((3, 1)), "epochs: seconds is float64 (3, 1)"),
        ("epoch", np.int64(-1), "not that of -1 epochs"),
        ("adam_t", np.int64(0), "adam_t must be 21; got 0"),
        ("adam_t", np.int64(10**18), "adam_t must be 21; got 1000"),
        ("adam_v/q1.mu.b", np.full(2, np.inf, np.float32), "holds NaN or infinity"),
        ("adam_v/q1.mu.b", np.array([1, -1e-9], np.float32), "a negative mean of sq"),
        ("state/baseline", np.array(np.nan), "state/baseline holds NaN"),
    ],
)
def test_checkpoints_that_cannot_be_right(tmp_path, key, value, message):
    model, images = tiny()
    quick(model, images, folder=tmp_path)
    with np.load(tmp_path / "checkpoint.npz") as file:
        arrays = dict(file)
    arrays[key] = value
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    for read in (
        lambda: quick(*tiny(), folder=tmp_path),
        lambda: mv.load_run(tmp_path),
    ):
        with pytest.raises(ValueError) as error:
            read()
        assert message in str(error.value) and "checkpoint.npz" in str(error.value)


MANY = [[]] * 2000


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": []}, "(model is [])"),
        ({"bound": None, "k": 2.5}, "(bound is None; k is 2.5)"),
        ({"data": ["mnist"], "average": "0.9"}, "data is ['mnist']; average is '0.9'"),
        ({"average": 1.5}, "average is 1.5"),
        ({"images": 0, "batch": "8"}, "images is 0; batch is '8'"),
        ({"model": {"x_dim": 9, "hidden_dims": [[6]], "latent_dims": [0]}}, "latent"),
        ({"model": {"x_dim": 9, "likelihood": ["gaussian"]}}, "likelihood must be"),
        ({"model": {"x_dim": 9, "rng": 3}}, "rng"),
        ({"model": {"x_dim": 9, "x_sigma": 10**400}}, "x_sigma"),
        ({"model": {"x_dim": 9, "x_sigma": "1"}}, "settings"),
        ({"model": {"x_dim": 9, "dtype": "U9"}}, "dtype must be one of"),
        ({"model": {"x_dim": 9, "dtype": {}}}, "settings"),
        ({"model": {"x_dim": 9, "hidden_dims": 3}}, "settings"),
        ({"model": {"x_dim": 784, "hidden_dims": [[400_000]]}}, "at most 50,000,000"),
        ({"model": {"x_dim": 10**300}}, "parameters or more"),
        (
            {
                "model": {
                    "x_dim": 9,
                    "hidden_dims": [[]] * 2000,
                    "latent_dims": [1] * 2000,
                }
            },
            "in 2,000 layers; at most",
        ),
    ],
)
def test_settings_that_cannot_be_right_are_refused_by_name(tmp_path, change, words):
    model, images = tiny()
    quick(model, images, epochs=1, folder=tmp_path)
    path = tmp_path / "config.json"
    files.write_json(path, files.read_json(path) | change)
    tracemalloc.start()
    with pytest.raises(ValueError) as error:
        mv.load_run(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(f"{path}: not a run's settings")
    assert peak < 2**20


def test_what_a_checkpoint_need_not_hold_is_not_read(tmp_path):
    model, images = tiny()
    quick(model, images, epochs=1, folder=tmp_path)
    path = tmp_path / "checkpoint.npz"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("params/more.npy", bytes(2**26))
        archive.writestr("history/more.npy", bytes(2**26))
    tracemalloc.start()
    assert list(mv.load_run(tmp_path).history)[:2] == ["epoch", "learning_rate"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_removed_config_is_noticed_and_written_again(tmp_path, monkeypatch):
    real = training.run_epoch

    def remove(setting, epoch, *args):
        if epoch == 2:
            (tmp_path / "config.json").unlink()
        return real(setting, epoch, *args)

    monkeypatch.setattr(training, "run_epoch", remove)
    with pytest.warns(UserWarning, match="somebody removed the config.json") as seen:
        run = quick(*tiny(), folder=tmp_path)
    assert len(seen) == 1 and mv.load_run(tmp_path).config == run.config


def traced_peak(work):
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_held_out_images_take_no_memory_that_grows_with_k():
    """With k = 1,000, eps of the 200 images at once would be 3.2 MB."""
    model, images = tiny()
    few = {"k": 1000, "epochs": 1, "batch": 2}
    quick(model, images, **few, test_images=images)  # compiles
    without = traced_peak(lambda: quick(model, images, **few))
    others = np.tile(images, (4, 1))
    held_out = traced_peak(lambda: quick(model, images, **few, test_images=others))
    assert held_out < without + 2**20


def test_vimco_takes_its_k_squared_numbers_in_parts(monkeypatch):
    """The same to the last bit, in a memory that does not grow with k squared."""
    log_w = np.random.default_rng(0).normal(scale=5, size=(3, 1000))
    real = mv.ESTIMATORS["vimco"]

    def coefficients():
        return real(partial(mv.BOUNDS["iwae"], ops=load_ops("numba")), log_w)

    expected = coefficients()
    monkeypatch.setattr(estimators, "VIMCO_NUMBERS", 2**16)
    for got, want in zip(coefficients(), expected):
        np.testing.assert_array_equal(got, want)
    assert traced_peak(coefficients) < 2**22  # 24 MB at once


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_test_bound_that_is_not_finite_is_said(tmp_path, monkeypatch, value):
    """When it happens; and the run, whose training is sound, goes on and resumes."""
    real, values = training.held_out_bound, [1.0, value, 1.0]
    monkeypatch.setattr(
        training, "held_out_bound", lambda *args: real(*args) and values.pop(0)
    )
    model, images = tiny()
    message = f"epoch 2: the bound of the test images is {value}"
    with pytest.warns(UserWarning, match=message) as seen:
        mv.train(model, images, k=3, batch=8, epochs=2, progress=False,
                 test_images=images, folder=tmp_path)  # fmt: skip
    assert seen[0].filename == __file__  # where train was called
    run = quick(model, images, epochs=3, test_images=images, folder=tmp_path)
    assert len(run.history["test_bound"]) == 3
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    np.testing.assert_equal(float(lines[2].split(",")[3]), value)


def test_links_are_followed_and_devices_left_alone(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_json(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert files.read_json(tmp_path / "real") == {"a": 1}
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="something else than a file"):
        files.write_json(tmp_path / "folder", {})
    with pytest.raises(NotADirectoryError, match="a run needs a folder"):
        quick(*tiny(), folder=tmp_path / "real")


def test_the_baseline_is_updated_after_use_and_kept(tmp_path, monkeypatch):
    """Estimator "score": the running mean of earlier steps, over a resumed run too."""
    real_gradient, real_step = training.add_gradient, training.step_gradient
    used, values = [], []

    def gradient_spy(objective, *args, **inputs):
        used.append(objective.estimator.keywords["baseline"])
        return real_gradient(objective, *args, **inputs)

    def step_spy(*args):
        value, grads = real_step(*args)
        values.append(value)
        return value, grads

    monkeypatch.setattr(training, "add_gradient", gradient_spy)
    monkeypatch.setattr(training, "step_gradient", step_spy)
    model, images = tiny()
    quick(model, images, estimator="score", epochs=1, folder=tmp_path)
    resumed, _ = tiny(seed=5)
    quick(resumed, images, estimator="score", epochs=2, folder=tmp_path)
    assert used[0] == 0 and len(used) == len(values) == 14
    for t in range(1, len(values)):
        weights = 0.99 ** np.arange(t)[::-1]
        assert used[t] == pytest.approx(np.average(values[:t], weights=weights))


@pytest.mark.parametrize("backward", ["single", "sparse"])
def test_subsampled_runs_resume_bit_for_bit(tmp_path, backward):
    whole, images = tiny()
    quick(whole, images, epochs=2, backward=backward)
    first, _ = tiny()
    quick(first, images, epochs=1, backward=backward, folder=tmp_path)
    resumed, _ = tiny(seed=5)
    quick(resumed, images, epochs=2, backward=backward, folder=tmp_path)
    assert_same_params(resumed, whole)


def test_a_weight_of_zero_spoils_nothing():
    """One sample of probability zero: the bound is finite, and so is its gradient."""
    rng = np.random.default_rng(0)
    model = mv.VAE(8, (2, 2), ((), ()), dtype="float64", rng=rng)
    x = (np.random.default_rng(0).random((6, 8)) < 0.5) * 1.0
    eps = model.draw_eps(6, 3, np.random.default_rng(1))
    with np.errstate(over="ignore", invalid="ignore"):
        value, grads = mv.bound_and_grad(model, x, eps)
    assert np.isfinite(value)
    assert all(np.isfinite(array).all() for array in grads.values())
