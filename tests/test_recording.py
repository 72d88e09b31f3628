"""Recorded steps, and what is said where there is no GPU: with a CuPy that only says
what it is asked for.
"""

import gc
import importlib
import os
import subprocess
import sys
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minivae as mv
from minivae.cli import main
from minivae.engine import recording
from minivae.engine.params import Params
from minivae.kernels import device, matmul

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


class FakeCupy:
    """Writes down what is queued, recorded and replayed."""

    def __init__(self):
        self.log, self.recording = [], False
        self.refuses, self.spoils = None, False
        self.current = SimpleNamespace(ptr=0, synchronize=lambda: self.note("wait"))
        self.cuda = SimpleNamespace(
            MemoryPool=lambda: SimpleNamespace(
                malloc="pool", free_all_blocks=lambda: self.note("free")
            ),
            using_allocator=self.using_allocator,
            get_current_stream=lambda: self.current,
            Stream=self.stream,
        )

    def note(self, what):
        self.log.append(what)

    @contextmanager
    def using_allocator(self, malloc):
        assert malloc == "pool"
        self.note("[")
        yield
        self.note("]")

    @contextmanager
    def stream(self, non_blocking):
        assert non_blocking
        before, self.current = self.current, self
        self.ptr = 7
        yield self
        self.current = before

    def synchronize(self):
        self.note("wait for 7")

    def product(self, name):
        self.note(f"{name} on {self.current.name}")

    def begin_capture(self):
        self.note("record")
        self.recording = True

    def end_capture(self):
        self.recording = False
        self.note("end")
        if self.spoils:
            raise RuntimeError("the recording was broken off")
        return SimpleNamespace(launch=lambda: self.note("replay"))

    def step(self):
        self.note("step")
        if self.recording and self.refuses:
            raise self.refuses


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setattr(device, "arrays", lambda: fake)
    recording.own_stream.cache_clear()
    yield fake
    recording.own_stream.cache_clear()


def test_a_step_is_recorded_once_and_replayed(cupy):
    step = recording.recorded(cupy.step)
    with recording.queue():
        for _ in range(5):
            step()
    eager, record = ["[", "step", "]"], ["record", "[", "step", "]", "end"]
    replays = ["replay"] * 3
    assert cupy.log == ["wait", *eager, *eager, *record, *replays, "wait for 7"]
    del step
    assert cupy.log[-1] == "free"


@pytest.mark.parametrize("spoils", [False, True])
def test_what_prevents_recording_is_said_and_steps_go_on(cupy, spoils):
    """The first error, also where it breaks the recording off."""
    cupy.refuses, cupy.spoils = NotImplementedError("no cuBLAS in a graph"), spoils
    step = recording.recorded(cupy.step)
    with recording.queue():
        step()
        step()
        with pytest.warns(UserWarning, match="no cuBLAS in a graph"):
            step()
        step()
    assert cupy.log.count("step") == 5  # one of them was only to be recorded
    assert "replay" not in cupy.log


class FakeStream:
    """A stream that says what it waits for."""

    def __init__(self, cupy, name):
        self.cupy, self.name, self.ptr = cupy, name, 9

    def record(self):
        return f"{self.name} now"

    def wait_event(self, event):
        self.cupy.note(f"{self.name} waits for {event}")

    def __enter__(self):
        self.before, self.cupy.current = self.cupy.current, self

    def __exit__(self, *error):
        self.cupy.current = self.before


def test_products_on_a_second_stream(cupy, monkeypatch):
    """Each waits for what it reads, and what follows waits for all of them; their
    factors have owners until then.
    """
    first, second = (FakeStream(cupy, name) for name in ("first", "second"))
    cupy.current = first
    monkeypatch.setattr(recording, "second_stream", lambda: second)
    monkeypatch.setattr(recording, "on_host", lambda array: False)
    grads = Params({"W": (2, 2)}, np.empty(4), uninitialised=["W"])
    factors = [np.eye(2), np.eye(2)]
    here = [weakref.ref(factor) for factor in factors]

    def matmul(a, b, out=None):
        cupy.product("a b")
        return np.matmul(a, b, out=out)

    with recording.products_aside(grads):
        grads.add_product("W", matmul, *factors)
        cupy.product("the chain")
        grads.add_product("W", matmul, *factors)
        del factors
        assert all(factor() is not None for factor in here)
    assert cupy.log == [
        "second waits for first now", "a b on second", "the chain on first",
        "second waits for first now", "a b on second", "first waits for second now",
    ]  # fmt: skip
    gc.collect()
    assert all(factor() is None for factor in here)
    np.testing.assert_array_equal(grads["W"], 2 * np.eye(2))
    grads.add_product("W", np.matmul, np.eye(2), np.eye(2))  # and no more
    assert len(cupy.log) == 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_queue_is_empty_whatever_happens(cupy, error):
    with pytest.raises(error), recording.queue():
        raise error
    assert cupy.log == ["wait", "wait for 7"]


def refuse(status):
    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if isinstance(status, int) and status:
            error = CUDARuntimeError()
            error.status = status
            raise error
        return 0 if status == 0 else 1

    return SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=count)


@pytest.mark.parametrize("status, error, message", [
    (35, OSError, "needs NVIDIA's driver, which is missing or too old"),
    (3, OSError, "needs NVIDIA's driver"),
    (100, OSError, "finds no GPU"),
    (999, OSError, "finds no GPU (CUDA's error 999)"),
    (0, OSError, "finds no GPU"),
])  # fmt: skip
def test_what_is_missing_is_said(monkeypatch, status, error, message):
    there = SimpleNamespace(cuda=SimpleNamespace(runtime=refuse(status)))
    monkeypatch.setattr(device, "arrays", lambda: there)
    with pytest.raises(error) as caught:
        mv.VAE(9, device="cuda", rng=np.random.default_rng(0))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def raises(*arguments):
    raise RuntimeError("no libnvvm.so.4\nin no folder")


@pytest.mark.parametrize("available, compiles, why", [
    (lambda: False, raises, "no driver for Numba"),
    (raises, raises, "no libnvvm.so.4 in no folder"),  # where it should answer False
    (lambda: True, raises, "no libnvvm.so.4 in no folder"),
])  # fmt: skip
def test_numba_finds_no_compiler(monkeypatch, available, compiles, why):
    """Also where Numba raises in the place of an answer."""
    numba = SimpleNamespace(
        is_available=available,
        cuda_error=lambda: "no driver\nfor Numba",
        compile_ptx_for_current_device=compiles,
    )
    there = SimpleNamespace(cuda=SimpleNamespace(runtime=refuse("there")))
    monkeypatch.setattr(device, "arrays", lambda: there)
    monkeypatch.setattr(device, "cuda", numba)
    device.numba_fails.cache_clear()
    with pytest.raises(ModuleNotFoundError) as caught:
        device.require_device()
    device.numba_fails.cache_clear()
    message = str(caught.value)
    assert f"set CUDA_HOME to the folder of an installed CUDA ({why})" in message
    assert "pip install 'minivae[cuda]'" in message and "\n" not in message


class FakeArray:
    """CuPy's array, of a stream; its interface is made anew each time."""

    @property
    def __cuda_array_interface__(self):
        return {"data": (64, False), "shape": (3,), "stream": 7, "version": 3}


def test_a_launch_uses_what_the_last_has_prepared(monkeypatch):
    """The same object for a stream, by which Numba finds it; arrays name no stream."""
    made, launched, streams, arrays = [], [], [], []

    def external_stream(pointer):
        made.append(pointer)
        return object()

    def from_interface(interface, owner, sync):
        assert not sync and interface.pop("stream") is None
        arrays.append((owner, interface))
        return "Numba's"

    class Kernel:
        def __getitem__(self, configuration):
            streams.append(configuration[2])
            return lambda *arguments: launched.append(arguments)

    numba = SimpleNamespace(
        external_stream=external_stream, from_cuda_array_interface=from_interface
    )
    monkeypatch.setattr(device, "cuda", numba)
    array, pointer = FakeArray(), iter([7, 7, 0, 8])
    monkeypatch.setattr(device, "stream_pointer", lambda: next(pointer))
    device.numba_stream.cache_clear()
    for _ in range(4):
        device.launch(Kernel(), 1, array, 2.5)
    device.numba_stream.cache_clear()
    assert made == [7, 8] and streams[0] is streams[1] and streams[2] == 0
    assert launched == [("Numba's", 2.5)] * 4 and arrays[0][0] is array
    assert arrays[0][1] == {"data": (64, False), "shape": (3,), "version": 3}


def test_a_benchmark_says_what_is_missing(monkeypatch, capsys):
    """In one line, with exit code 2."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    machine = importlib.import_module("machine")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SystemExit) as stop:
        machine.need_gpu()
    errors = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(errors) == 1
    assert "needs CuPy and numba-cuda" in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("script", [
    ["gpu_check.sh"],
    ["gpu_check.sh", "--pack", "archive", "kernels"],
    [sys.executable, "kernels.py", "--device", "cuda"],
    [sys.executable, "training.py", "--device", "cuda"],
])  # fmt: skip
def test_a_script_says_what_is_missing(script, tmp_path):
    """And leaves nothing behind."""
    no_cupy = tmp_path / "cupy.py"
    no_cupy.write_text("raise ModuleNotFoundError('no cupy')")
    program = [p if p == sys.executable else str(BENCHMARKS / p) for p in script[:2]]
    if script[0] == "gpu_check.sh":
        program = ["bash", str(BENCHMARKS / script[0]), *script[1:2]]
    path = os.pathsep.join([str(tmp_path), str(BENCHMARKS.parent)])
    env = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": path}
    before = sorted((BENCHMARKS / "results").iterdir())
    result = subprocess.run(
        [*program, *script[2:]], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "cuda" in result.stderr
    assert sorted((BENCHMARKS / "results").iterdir()) == before


def test_cupy_is_missing(monkeypatch, capsys, tmp_path):
    """One line, and nothing is left behind."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    folder = tmp_path / "run"
    assert main(["train", "--device", "cuda", "--out", str(folder)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "pip install 'minivae[cuda]'" in errors[0]
    assert not folder.exists()


def test_cublas_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    matmul.library.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="cuBLAS: pip install"):
        matmul.library()


def test_no_memory_left_on_the_gpu(monkeypatch):
    """Which array, how large, what to lower."""

    def empty(shape, dtype):
        raise MemoryError("out of memory allocating 15,680,000 bytes")

    monkeypatch.setattr(device, "arrays", lambda: SimpleNamespace(empty=empty))
    with pytest.raises(MemoryError) as error:
        device.device_empty((5000, 784), np.float32)
    assert str(error.value).startswith(
        "the GPU has no memory left for an array of shape (5000, 784), float32,"
        " 15.7 MB: lower the batch or k (out of memory"
    )
