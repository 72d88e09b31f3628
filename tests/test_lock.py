"""One writer in a folder, whatever ended the one before."""

import errno
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import minivae as mv
from minivae import cli
from minivae.engine.lock import NAME, writing_in

HOLD = """
import sys
from minivae.engine.lock import writing_in
with writing_in(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the lock of tmp_path until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def train(folder, **settings):
    model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(0))
    images = np.random.default_rng(1).random((50, 9))
    settings = {"k": 3, "epochs": 2, "progress": False} | settings
    return mv.train(model, images, folder=folder, **settings)


def test_another_process_is_named(tmp_path, holder, capsys):
    words = f"another run (process {holder.pid}) is writing here"
    with pytest.raises(BlockingIOError) as error:
        train(tmp_path)
    assert words in str(error.value) and str(tmp_path) in str(error.value)
    for command in (["demo"], ["reproduce", "snr"]):
        assert cli.main([*command, "--out", str(tmp_path)]) == 2
        assert words in capsys.readouterr().err
    assert os.listdir(tmp_path) == [NAME]
    holder.communicate("")
    assert os.listdir(tmp_path) == []
    train(tmp_path)


def test_a_kill_releases_it(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / NAME).read_text() == f"{holder.pid}\n"  # which is no lock
    train(tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_second_run_of_the_same_process_is_another(tmp_path):
    with writing_in(tmp_path), pytest.raises(BlockingIOError) as error:
        train(tmp_path)
    assert f"process {os.getpid()}" in str(error.value)
    train(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_keep_it(tmp_path):
    reading, writing = os.pipe()
    with writing_in(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent has done
            os._exit(0)
    with writing_in(tmp_path):
        pass
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    os.close(reading)


def test_what_a_killed_run_left_is_removed(tmp_path):
    for name in ("config.json", "checkpoint.npz", "metrics.csv"):
        (tmp_path / f"{name}.tmp").write_text("half")
        (tmp_path / f"{name}.0123.tmp").write_text("half")
    train(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "checkpoint.npz",
        "config.json",
        "metrics.csv",
    ]


def test_a_planted_link_is_no_lock(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        train(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_lock(tmp_path):
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(ValueError, match=r"\.lock: not a regular file"):
        train(tmp_path)


@pytest.mark.skipif(not find_spec("resource"), reason="this system has no limits")
def test_a_full_disk_is_named(tmp_path):
    """A limit on the size of files stands for it: both let a write fail."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError) as error, writing_in(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path / NAME) in str(error.value)
    assert error.value.errno == errno.EFBIG and os.listdir(tmp_path) == []


RACE = """
import sys, numpy as np, minivae as mv
model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(0))
images = np.random.default_rng(1).random((50, 9))
print("ready", flush=True)
sys.stdin.read()
settings = {"k": int(sys.argv[2]), "epochs": 20, "progress": False}
mv.train(model, images, folder=sys.argv[1], **settings)
"""


@pytest.mark.parametrize("trial", range(2))
def test_of_two_trainings_at_once_one_is_refused(tmp_path, trial):
    race(tmp_path)


def race(folder):
    """Two trainings of other settings, let go at once: the folder holds one whole run,
    and the other was refused in a line.
    """
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(folder), str(k)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in (3, 4)
    ]
    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        process.stdin.close()
    errors = []
    for process in pair:
        errors.append(process.stderr.read())
        process.stdout.close()
        process.stderr.close()
        process.wait()
    done = [process.returncode == 0 for process in pair]
    assert sum(done) == 1, errors
    refused = errors[done.index(False)].strip().splitlines()[-1]
    assert "is writing here" in refused or "a run with other settings" in refused
    run = mv.load_run(folder)
    assert run.config["k"] == (3, 4)[done.index(True)]
    assert run.history["epoch"] == list(range(1, 21))


def test_two_evaluations_at_once(tmp_path):
    """Their results have the same name; both end well, and the file is whole."""
    train(tmp_path)
    code = (
        "import sys, numpy as np\n"
        "from minivae import cli, data\n"
        "from minivae.data import Dataset\n"
        "x = np.random.default_rng(1).random((50, 9))\n"
        "data.load = lambda name, **options: Dataset(x, None, x[:20], None)\n"
        "sys.exit(cli.main(['evaluate', sys.argv[1], '--k', '20', '--data', 'x']))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pair = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert len(list(tmp_path.glob("evaluation_20_images_k_20.json"))) == 1
    assert not list(tmp_path.rglob("*.tmp"))
