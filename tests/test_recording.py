"""Recorded steps, and what is said where there is no GPU: with a CuPy that only says
what it is asked for.
"""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

import minivae as mv
from minivae.cli import main
from minivae.engine import recording
from minivae.kernels import device, matmul


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
    ("there", ModuleNotFoundError, "Numba cannot use it: pip install 'minivae[cuda]'"),
])  # fmt: skip
def test_what_is_missing_is_said(monkeypatch, status, error, message):
    there = SimpleNamespace(cuda=SimpleNamespace(runtime=refuse(status)))
    monkeypatch.setattr(device, "arrays", lambda: there)
    monkeypatch.setattr(device.cuda, "is_available", lambda: False)
    with pytest.raises(error) as caught:
        mv.VAE(9, device="cuda", rng=np.random.default_rng(0))
    assert message in str(caught.value) and "\n" not in str(caught.value)


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
