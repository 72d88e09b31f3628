"""Breaks minivae on purpose, many times over, and counts what held.

    python tests/campaigns.py [NAME ...]

"kills": trainings with every estimator and one to three stochastic layers are killed
at random moments and resumed; they must end at the bits of an unbroken one. "races": of
two trainings let go at once in one folder, one is refused. "disks": the disk is full
from the n-th write on, for every n, while a model is trained, evaluated and drawn from;
with space again, the same commands must end as if nothing had been. The others: damaged
files of that kind must be read as something, or be refused in one line that names the
file, within seconds and without taking memory. The same seed makes the same damage.

Without names, all; writes benchmarks/results/campaigns.md. A name is a slow test. Needs
a system that can fork.
"""

import argparse
import builtins
import errno
import io
import itertools
import json
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import numpy as np
from own_data import idx_bytes, made_up
from PIL import Image
from test_lock import race

import minivae as mv
from minivae import cli
from minivae.engine.threads import ask_for

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
SECONDS, MEGABYTES = 20, 1000  # the most that one damaged file may take


def in_child(work, kill_after=None):
    """What became of ``work()`` in a forked child: its exit code, or minus the signal
    that ended it; what it said (an exception: its name and its text); and the most
    memory that it held, in megabytes.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        code = 1
        try:
            signal.alarm(SECONDS)
            said, code = str(work()), 0
        except SystemExit as error:
            said, code = "", error.code
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        with suppress(OSError):
            os.write(write, said.encode()[:60_000])
        os._exit(code or 0)
    os.close(write)
    if kill_after is not None:
        time.sleep(kill_after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status, usage = os.wait4(child, 0)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return os.waitstatus_to_exitcode(status), said, usage.ru_maxrss / unit


# kills


def train(folder, estimator, depth):
    """Thirty epochs, with everything in the checkpoint that a run may keep."""
    rng = np.random.default_rng(0)
    model = mv.VAE(9, (3,) * depth, ((6,),) * depth, rng=rng)
    images = np.random.default_rng(1).random((60, 9))
    how = {"m": 2} if estimator == "piwae" else {}
    mv.train(
        model, images, "iwae", 4, estimator, epochs=30, batch=8, schedule="cosine",
        average=0.9, test_images=images[:7], folder=folder, progress=False, **how,
    )  # fmt: skip


def kept(folder):
    """All that a checkpoint holds, but for the seconds."""
    with np.load(folder / "checkpoint.npz") as file:
        return {name: file[name].tobytes() for name in file if "seconds" not in name}


def kills(scratch, number=200):
    rng, tried, failed = np.random.default_rng(0), 0, []
    cells = list(itertools.product(mv.ESTIMATORS, (1, 2, 3)))
    for cell, (estimator, depth) in enumerate(cells):
        what = f"{estimator}, {depth} layers"

        def work(folder, kill_after=None, estimator=estimator, depth=depth):
            return in_child(lambda: train(folder, estimator, depth), kill_after)

        start = time.perf_counter()
        code, said, _ = work(scratch / f"{cell}")
        seconds = time.perf_counter() - start
        if code:
            raise SystemExit(f"{what}: the unbroken run fails: {said}")
        whole, mine = kept(scratch / f"{cell}"), 0
        while mine < -(-number // len(cells)):
            folder, in_a_row, wrong = scratch / f"{cell}-{mine}", 0, None
            while in_a_row < 4:
                code, said, _ = work(folder, kill_after=rng.uniform(0, seconds))
                if code != -signal.SIGKILL:
                    break
                in_a_row += 1
                with suppress(FileNotFoundError):  # killed before the first epoch
                    try:
                        mv.load_run(folder)
                    except ValueError as error:
                        wrong = f"what a kill left is not readable: {error}"
            code, said, _ = work(folder)
            if code:
                wrong = f"not resumed: {said}"
            elif kept(folder) != whole:
                wrong = "other bits than the unbroken run's"
            elif left := [*folder.glob("*.tmp")]:
                wrong = f"left behind: {left}"
            failed += [f"{what}: {wrong}"] * in_a_row if wrong else []
            tried, mine = tried + in_a_row, mine + in_a_row
    return tried, failed


# two trainings at once


def races(scratch, number=20):
    failed = []
    for trial in range(number):
        try:
            race(scratch / str(trial))
        except AssertionError as error:
            failed.append(f"trial {trial}: {error}")
    return number, failed


# full disks


class FullDisk:
    """A disk that takes ``space`` more writes, creations, syncs and renames."""

    def __init__(self, space):
        self.space = space
        self.open, self.fsync, self.replace = builtins.open, os.fsync, os.replace
        builtins.open = io.open = self.opened
        os.fsync = lambda *of: self.take() or self.fsync(*of)
        os.replace = lambda *of: self.take() or self.replace(*of)

    def take(self, *names):
        if not self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)
        self.space -= 1

    def opened(self, file, mode="r", buffering=-1, *rest, opener=None, **how):
        if isinstance(file, int) or not set(mode) & set("wxa+"):
            return self.open(file, mode, buffering, *rest, opener=opener, **how)
        self.take(os.fspath(file))
        raw = _Raw(file, mode.replace("b", ""), opener=opener)
        raw.disk = self
        if not buffering:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), **how)


class _Raw(io.FileIO):
    def write(self, data):
        self.disk.take()
        return super().write(data)


COMMANDS = [
    "train --data {data} --bound iwae --k 4 --epochs 2 --batch 20 --hidden-dims 6"
    " --latent-dims 2 --out {run}",
    "evaluate {run} --k 40",
    "sample {run}",
]


def disks(scratch):
    """Each command with space for 0, 1, 2, ... writes, until it ends well; after each
    failure once more with all the space there is.
    """
    data, tried, failed = scratch / "images.npy", 0, []
    np.save(data, made_up(60, 4, 5)[0])

    def command(line, run, space=None):
        """Its exit code, and what it said on the way."""
        out, errors = redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO())
        with chdir(scratch), out, errors as said:
            if space is not None:
                FullDisk(space)
            code = cli.main(line.format(data=data, run=run).split())
        return code or 0, said.getvalue()

    def holds(run):
        """What a run's folder holds, but for the seconds of its history."""
        names = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
        texts = [path.read_text() for path in sorted(run.glob("evaluation*.json"))]
        return kept(run), [json.loads(text)["nll"] for text in texts], names

    before, whole = scratch / "before", scratch / "whole"
    before.mkdir()
    for line in COMMANDS:
        shutil.copytree(before, whole)
        code, said = command(line, whole)  # here, so that all is loaded in the children
        if code:
            raise SystemExit(f"{line}: fails with all the space there is: {said}")
        for space in itertools.count():
            run, wrong = scratch / "run", None
            shutil.copytree(before, run)
            code, said, _ = in_child(lambda: command(line, run, space))
            if code == 0 and said.startswith("(0,"):
                break
            named = re.search(f"{run}.*: No space left|No space left.*: '{run}", said)
            if code or not named or "Traceback" in said:
                wrong = f"ended with {code}: {said[-300:]}"
            elif left := [*run.rglob("*.tmp")]:
                wrong = f"left behind: {left}"
            code, said, _ = in_child(lambda: command(line, run))
            if code or not said.startswith("(0,"):
                wrong = f"with space again: {said[-300:]}"
            elif holds(run) != holds(whole):
                wrong = "another result with space again"
            tried += 1
            failed += [f"{line.split()[0]}, {space} writes: {wrong}"] if wrong else []
            shutil.rmtree(run)
        shutil.rmtree(run)
        shutil.rmtree(before)
        whole.rename(before)
    return tried, failed


# damaged files


def damage(rng, raw):
    """``raw`` with one to three places changed as disks, networks and hands do."""
    raw = bytearray(raw)
    for _ in range(rng.integers(1, 4)):
        at, length = rng.integers(0, len(raw) + 1), int(2 ** rng.uniform(0, 8))
        here, other = slice(at, at + length), rng.integers(0, len(raw) + 1)
        kind = rng.integers(0, 8)
        if kind == 0:
            for i in rng.integers(0, max(1, len(raw)), 4):
                raw[i : i + 1] = (
                    bytes([raw[i] ^ 1 << rng.integers(0, 8)]) if raw else b""
                )
        elif kind == 1:
            raw[here] = rng.bytes(length)
        elif kind == 2:
            raw[here] = bytes([rng.choice([0, 255, 0x39])]) * length
        elif kind == 3:
            del raw[here]
        elif kind == 4:
            del raw[at:]
        elif kind == 5:
            raw[other:other] = raw[here]
        elif kind == 6:
            raw[other:other] = rng.bytes(length)
        else:
            change_number(rng, raw)
    return bytes(raw)


EXTREME = (
    "-1 0 1e999 -1e999 NaN Infinity 1e-320 4294967296 99999999999999999999 1e308 true"
    ' null "" [] {} [[[[ 0x10 ١ 1_0 1,1 +1'.split()
)


def change_number(rng, raw):
    """Let a number, where there is one in plain text, be another, or something else."""
    found = list(re.finditer(rb"-?\d[\d.e+-]*|null|true|false", raw))
    if found:
        where = found[rng.integers(len(found))]
        raw[where.start() : where.end()] = rng.choice(EXTREME).encode()


def damage_members(rng, path):
    """Write one array of an .npz as another, or leave it out, with right checksums."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    name = rng.choice(list(arrays))
    array = arrays[name]
    changed = [
        None, array.astype(np.complex64), array.astype(object), array.astype("U9"),
        array.astype(np.float16), array[None], array.ravel()[:-1], array * np.nan,
        array + np.inf, -array, array + 10**6, np.zeros(0), np.zeros((4000, 4000)),
        array.astype(array.dtype.newbyteorder()),
    ][rng.integers(14)]  # fmt: skip
    arrays.pop(name)
    with np.errstate(all="ignore"), zipfile.ZipFile(path, "w") as file:
        for key, value in (arrays | {name: changed}).items():
            if value is not None:
                with file.open(f"{key}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(value))


def damaged(kind, scratch, number=300):
    """So many damaged files of a ``kind``: one of those that `prepare` makes."""
    rng, failed = np.random.default_rng(0), []
    path, read = prepare(kind, scratch)
    good = path.read_bytes()
    code, said, level = in_child(read)
    if code:
        raise SystemExit(f"{kind}: the whole file is refused: {said}")
    for trial in range(number):
        path.write_bytes(good)
        if kind == "checkpoint" and trial % 2:
            damage_members(rng, path)
        else:
            path.write_bytes(damage(rng, good))
        code, said, most = in_child(read)
        error, _, text = said.partition(": ")
        wrong = None
        if code < 0:
            wrong = f"ended by signal {-code}"
        elif most - level > MEGABYTES:
            wrong = f"took {most - level:.0f} MB"
        elif code and error not in ("ValueError", "OSError", "FileNotFoundError"):
            wrong = said
        elif code and (path.name not in text or "\n" in text):
            wrong = f"not one line that names the file: {said}"
        if wrong:
            failed.append(f"{kind} {trial}: {wrong[:300]}")
    return number, failed


def prepare(kind, scratch):
    """(the file to damage, how it is read)."""
    images, labels = made_up(60, 4, 5)
    if kind in ("config", "checkpoint"):
        train(scratch / "run", "reparam", 1)
        name = "config.json" if kind == "config" else "checkpoint.npz"
        return scratch / "run" / name, lambda: mv.load_run(scratch / "run")
    path = scratch / f"images.{kind}"
    if kind == "idx":
        path.write_bytes(idx_bytes(images))
    elif kind == "npy":
        np.save(path, images / np.float32(255))
    elif kind == "csv":
        rows = np.column_stack([images.reshape(60, 20) / 255, labels])
        header = ",".join([*(f"pixel{i}" for i in range(20)), "label"])
        np.savetxt(path, rows, "%.4g", ",", header=header, comments="")
        return path, lambda: mv.load(path, label_column="label")
    else:
        path = scratch / "pictures" / "a" / "image.png"
        path.parent.mkdir(parents=True)
        for i, image in enumerate(images[:12]):
            Image.fromarray(image).save(path.with_name(f"{i}.png"))
        Image.fromarray(images[0]).save(path)
        return path, lambda: mv.load(scratch / "pictures")
    return path, lambda: mv.load(path)


FILES = ("config", "checkpoint", "idx", "npy", "csv", "png")
CAMPAIGNS = {"kills": kills, "races": races, "disks": disks} | {
    kind: lambda scratch, kind=kind: damaged(kind, scratch) for kind in FILES
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CAMPAIGNS))
    names = parser.parse_args().names or list(CAMPAIGNS)
    rows = []
    ask_for(1)  # no pool of threads, which a fork would lose
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            tried, failed = CAMPAIGNS[name](Path(scratch))
            seconds = time.perf_counter() - start
        print(*failed, sep="\n", end="\n" if failed else "")
        held = tried - len(failed)
        rows.append(f"| {name} | {tried} | {held} | {len(failed)} | {seconds:.0f} |")
        print(rows[-1], flush=True)
        if failed:
            sys.exit(1)
    if len(names) == len(CAMPAIGNS):
        lines = [
            "| campaign | tried | held | failed | seconds |",
            "|---|---|---|---|---|",
        ]
        lines += [*rows, "", f"Python {platform.python_version()}, {platform.system()}"]
        (RESULTS / "campaigns.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
