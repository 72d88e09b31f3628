"""Several cells at once, whatever happens to those who train them."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

from minivae.experiments.pool import MOST_DEATHS, Job, environment, processes, run_jobs

# The order of jobs, on an executor that can be broken


class AtOnce(Executor):
    """Runs a job when it is submitted; MemoryError stands for a dead worker."""

    broken = False

    def submit(self, function, *arguments):
        if self.broken:
            raise BrokenProcessPool
        future = Future()
        try:
            future.set_result(function(*arguments))
        except MemoryError:
            self.broken = True
            future.set_exception(BrokenProcessPool())
        except Exception as error:
            future.set_exception(error)
        return future


def run(jobs, workers=1):
    """`run_jobs`; also how many executors it opened."""
    opened, seen = [], []

    @contextmanager
    def open_executor():
        opened.append(AtOnce())
        yield opened[-1], lambda: workers

    failed = run_jobs(jobs, open_executor, 1, lambda *state: seen.append(state))
    assert seen[-1][0] == []
    return failed, len(opened)


def test_the_first_that_is_ready_comes_first():
    order = []
    needs = {"a": (), "a2": ("a",), "b": (), "b2": ("b", "a2"), "c": ()}
    jobs = {name: Job(order.append, (name,), needs[name]) for name in needs}
    assert run(jobs) == ({}, 1)
    assert order == ["a", "a2", "b", "b2", "c"]
    order.clear()
    assert run(jobs, workers=2) == ({}, 1)
    assert order == ["a", "b", "a2", "c", "b2"]  # two at a time


def test_a_failure_is_returned():
    error, order = ValueError("no"), []

    def fail():
        raise error

    jobs = {
        "a": Job(fail, ()),
        "b": Job(order.append, ("b",), ("a",)),
        "c": Job(order.append, ("c",)),
    }
    assert run(jobs) == ({"a": error}, 1)
    assert order == ["c"]


def test_a_broken_executor_is_opened_again():
    begun = Counter()

    def job(name, deaths):
        begun[name] += 1
        if begun[name] <= deaths:
            raise MemoryError

    jobs = {"a": Job(job, ("a", MOST_DEATHS - 1)), "b": Job(job, ("b", 0))}
    assert run(jobs, workers=2) == ({}, MOST_DEATHS)
    assert begun == {"a": MOST_DEATHS, "b": 1}
    jobs = {"c": Job(job, ("c", 99)), "d": Job(job, ("d", 0))}
    failed, opened = run(jobs)
    assert [*failed] == ["c"] and opened == MOST_DEATHS + 1
    assert begun["c"] == MOST_DEATHS and begun["d"] == 1


def test_environment(monkeypatch):
    monkeypatch.setenv("MINIVAE_A", "before")
    with suppress(KeyError), environment({"MINIVAE_A": "1", "MINIVAE_B": "2"}):
        assert (os.environ["MINIVAE_A"], os.environ["MINIVAE_B"]) == ("1", "2")
        raise KeyError
    assert os.environ["MINIVAE_A"] == "before" and "MINIVAE_B" not in os.environ


# Real processes


def ctrl_c_is_held_back():
    """Or this job fails."""
    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="not on Windows")
def test_a_worker_never_hears_ctrl_c():
    """From its beginning: before `begin` has run it would print a traceback."""
    jobs, executor = {"a": Job(ctrl_c_is_held_back, ())}, partial(processes, 1, 1)
    assert run_jobs(jobs, executor, 1, print) == {}
    with pytest.raises(AssertionError):
        ctrl_c_is_held_back()  # the parent still hears it


CELLS = ["omniglot-1-vae-1", "omniglot-1-iwae-5"]
SECONDS = 300  # for all to end, on a machine that has other things to do


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    images = np.random.default_rng(0).random((60, 16), np.float32) ** 2
    path = tmp_path_factory.mktemp("images") / "tiny.npz"
    np.savez(path, train_images=images, test_images=images[:20])
    return path


def start(images, out, *more):
    """`minivae reproduce table1`, in a process group of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "minivae", "reproduce", "table1"),
            *("--cells", *CELLS, "--preset", "short", "--data", str(images)),
            *("--out", str(out), *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """The exit code and what was printed."""
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, output


def results(out):
    """What a cell ends with, but for the time that it took."""
    found = {}
    for cell in CELLS:
        folder = out / "short" / cell / "seed0"
        with np.load(folder / "checkpoint.npz") as file:
            arrays = {name: file[name].tobytes() for name in file.files}
        del arrays["history/seconds"]
        with np.load(folder / "evaluation_20_images_k_5000.npz") as file:
            measured = {name: file[name].tobytes() for name in file.files}
        found[cell] = arrays, measured
    return found


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    code, output = finish(start(images, out, "--workers", "1"))
    assert code == 0, output
    return results(out)


def worker_of(process, cell, out, epochs=20):
    """The process that trains a cell for `start`, once it has done some epochs."""
    folder = out / "short" / cell / "seed0"
    while process.poll() is None:
        time.sleep(0.01)
        with suppress(FileNotFoundError, ValueError):
            if len((folder / "metrics.csv").read_text().splitlines()) > epochs:
                return int((folder / ".lock").read_text())
    raise AssertionError(finish(process))


def is_gone(pid):
    """Whether a process ends within a while."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, name",
    [
        ("worker", "SIGKILL"),
        ("worker", "SIGINT"),
        ("parent", "SIGKILL"),
        ("parent", "SIGTERM"),
        ("parent", "SIGINT"),
        ("all", "SIGINT"),  # Ctrl-C in a terminal
        ("all", "SIGSTOP"),
    ],
)
def test_a_signal_changes_no_bit(target, name, images, undisturbed, tmp_path):
    process = start(images, tmp_path, "--workers", "2")
    worker = worker_of(process, CELLS[1], tmp_path)
    kill = os.killpg if target == "all" else os.kill
    pid = worker if target == "worker" else process.pid
    kill(pid, getattr(signal, name))
    if name == "SIGSTOP":
        time.sleep(2)
        kill(pid, signal.SIGCONT)
    code, output = finish(process)
    ends = target != "worker" and name != "SIGSTOP"
    if ends:
        number = getattr(signal, name)
        assert code == (130 if name == "SIGINT" else -number), output
        assert "Traceback" not in output
        assert is_gone(worker)
        if name == "SIGINT":
            assert "The same command again resumes there." in output
        code, output = finish(start(images, tmp_path))
    assert code == 0, output
    assert results(tmp_path) == undisturbed


CLUSTER = """
import sys
from distributed import LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("distributed"), reason="needs Dask: pip install 'minivae[cluster]'"
)
def test_a_dask_worker_is_killed(images, undisturbed, tmp_path):
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with cluster:
        address = cluster.stdout.readline().strip()
        process = start(images, tmp_path, "--dask", address)
        workers = {worker_of(process, cell, tmp_path) for cell in CELLS}
        assert len(workers) == 2 and process.pid not in workers
        os.kill(max(workers), signal.SIGKILL)
        code, output = finish(process)
        cluster.communicate("")
    assert code == 0, output
    assert results(tmp_path) == undisturbed
