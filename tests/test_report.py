"""Reporting never decides whether the work counts; Ctrl-C is left as it was found."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import minivae as mv
from minivae.engine import interrupt, report

# the command line, on 20 images of 9 pixels
MAIN = """
import sys, numpy as np
from minivae import cli, data
from minivae.data import Dataset
x = np.random.default_rng(0).random((20, 9), np.float32)
data.load = lambda name, **options: Dataset(x, None, x, None, name=name)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def main(tmp_path):
    path = tmp_path / "main.py"
    path.write_text(MAIN)
    return f"'{sys.executable}' '{path}'"


def shell(command, **settings):
    run = [shutil.which("bash"), "-c", command]
    return subprocess.run(run, capture_output=True, text=True, **settings)


needs_full = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no /dev/full"
)


def slow(case):
    """A case that only the slow tests run: its like is among the others."""
    return pytest.param(case, marks=pytest.mark.slow)


WHERE = [
    "2>&1 | head -c 1",
    "| true",
    "2>&-",
    ">&-",
    "<&- >&- 2>&-",
    ">/dev/full",
    "2>/dev/full",
    ">/dev/full 2>&1",
]


@needs_full
@pytest.mark.parametrize("where", [*WHERE[:3], *map(slow, WHERE[3:])])
def test_a_run_ends_well_wherever_its_words_go(main, tmp_path, where):
    """And its code is 0 only because it has ended."""
    train = "train --epochs 2 --k 2 --hidden-dims 5 --latent-dims 3 --out"
    evaluate = "evaluate --k 5"
    for command in (f"{train} {tmp_path}/run", f"{evaluate} {tmp_path}/run"):
        code = "echo ${PIPESTATUS[0]} > " + f"{tmp_path}/code"
        result = shell(f"{main} {command} {where}; {code}")
        assert (tmp_path / "code").read_text() == "0\n", result.stderr
        assert "Traceback" not in result.stderr and "Exception" not in result.stderr
        assert mv.load_run(tmp_path / "run").history["epoch"] == [1, 2]
    assert (tmp_path / "run/evaluation_20_images_k_5.json").exists()


@needs_full
@pytest.mark.parametrize("where", [*WHERE, ""])
def test_what_is_refused_is_2_wherever_it_is_said(main, tmp_path, where):
    result = shell(f"{main} evaluate {tmp_path} {where}; exit ${{PIPESTATUS[0]}}")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    if where in ("", "| true"):
        assert "no run with a checkpoint" in result.stderr


@pytest.mark.parametrize("name", ["\u00e9\u4e2d", os.fsdecode(b"raw\xff")])
def test_what_cannot_be_printed_is_escaped(main, tmp_path, name):
    train = "train --epochs 1 --k 2 --hidden-dims 5 --latent-dims 3 --out"
    env = os.environ | {"PYTHONIOENCODING": "ascii", "OUT": str(tmp_path / name)}
    result = shell(f'{main} {train} "$OUT"', env=env)
    assert result.returncode == 0, result.stderr
    escaped = name.encode("ascii", "backslashreplace").decode()
    assert f"run: {tmp_path}/{escaped}" in result.stdout


def test_no_bar_without_a_place_for_it(capsys, monkeypatch):
    model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(0))
    images = np.random.default_rng(1).random((50, 9))

    def run():
        mv.train(model, images, k=3, epochs=1)
        mv.evaluate(model, images, k=3)

    run()
    out, err = capsys.readouterr()
    line = r"epoch 1 of 1: iwae -\d+\.\d\d, \d+\.\d s\n"  # and no bar
    assert out == "" and re.fullmatch(line, err)
    for closed in (None, io.StringIO()):
        if closed:
            closed.close()
        monkeypatch.setattr(sys, "stderr", closed)
        run()
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    run()
    assert "iwae" in terminal.getvalue() and "evaluate, k = 3" in terminal.getvalue()


def test_say_to_what_raises_anything(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise RuntimeError("reentrant call")

    monkeypatch.setattr(sys, "stdout", Broken())
    report.say("text")
    report.flush_all()


# Ctrl-C


def test_ctrl_c_is_heard_and_its_handler_put_back(capsys):
    before = signal.getsignal(signal.SIGINT)
    with interrupt.interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        assert "stopping soon; Ctrl-C again stops at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ZeroDivisionError), interrupt.interruptible():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_is_heard_without_a_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with interrupt.interruptible() as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert interrupted()


def test_an_ignored_ctrl_c_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.interruptible() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert not interrupted()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_c_code_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *args: pytest.fail("replaced"))
    with interrupt.interruptible() as interrupted:
        assert not interrupted()


def test_another_thread_leaves_signals_alone():
    def work():
        with interrupt.interruptible() as interrupted:
            seen.append((interrupted(), signal.getsignal(signal.SIGINT)))

    before, seen = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


SLOW = """
import sys, numpy as np, minivae as mv
from minivae import training
real = training.take_step
def step(*args):
    print("step", flush=True)
    sys.stdin.readline()
    return real(*args)
training.take_step = step
model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(0))
mv.train(model, np.full((50, 9), 0.5), k=3, epochs=9, folder=sys.argv[1])
"""


def test_ctrl_c_twice_leaves_no_temporary_file(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "step\n"
    process.send_signal(signal.SIGINT)
    assert "stopping soon" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("option", ["-OO", slow("-O")])
def test_without_docstrings_and_asserts(main, tmp_path, option):
    python = main.replace("' '", f"' {option} '")
    train = f"train --epochs 1 --k 2 --hidden-dims 5 --latent-dims 3 --out {tmp_path}/r"
    for command in (train, f"evaluate {tmp_path}/r --k 3", "train --help-estimators"):
        result = shell(f"{python} {command}")
        assert result.returncode == 0, result.stderr
    assert shell(f"{python} train --help").returncode == 0
