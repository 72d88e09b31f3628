"""Files: whole or not there, under names of their own, and read only if regular."""

import os
import threading
import time

import pytest

from minivae.engine import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "error",
    [OSError(28, "disk full"), ValueError(), MemoryError(), KeyboardInterrupt()],
    ids=repr,
)
def test_a_half_written_file_never_has_the_name(tmp_path, error):
    """And nothing is left of it, whatever stopped the writer."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        files.write_atomically(path, fail)
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


def test_a_planted_link_is_not_written_through(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "x.json"
    victim.write_text("precious")
    (tmp_path / "x.json.tmp").symlink_to(victim)
    files.write_json(path, {"a": 1})
    assert victim.read_text() == "precious" and files.read_json(path) == {"a": 1}


def test_two_writers_do_not_meet(tmp_path):
    """The second begins and ends while the first is writing."""
    path, writing, go_on = tmp_path / "file", threading.Event(), threading.Event()

    def slow(file):
        file.write(b"slow")
        writing.set()
        assert go_on.wait(10)

    first = threading.Thread(target=files.write_atomically, args=(path, slow))
    first.start()
    assert writing.wait(10)
    files.write_text(path, "quick")
    assert path.read_text() == "quick\n"
    go_on.set()
    first.join()
    assert path.read_text() == "slow" and names(tmp_path) == ["file"]


def test_what_killed_writers_left_is_removed(tmp_path):
    old, young = tmp_path / "file.1.tmp", tmp_path / "file.2.tmp"
    for path in (old, young, tmp_path / "file2.1.tmp"):
        path.write_text("half")
    hours_ago = time.time() - 2 * files.STALE
    os.utime(old, (hours_ago, hours_ago))
    files.write_text(tmp_path / "file", "new")
    assert names(tmp_path) == ["file", "file.2.tmp", "file2.1.tmp"]
    files.remove_temporaries(tmp_path / "file")
    assert names(tmp_path) == ["file", "file2.1.tmp"]


def test_the_folder_is_synced_after_the_rename(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        calls.append("folder" if is_folder else "file")
        fsync(descriptor)

    def renamed(*paths):
        calls.append("rename")
        replace(*paths)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system has no /proc")
    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", renamed)
    files.write_text(tmp_path / "file", "text")
    assert calls == ["file", "rename", "folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_only_regular_files_of_a_known_size_are_read(tmp_path):
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="config.json: not a regular file"):
        files.read_json(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="config.json: not a regular file"):
        files.read_json(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**40)
    message = "config.json: 1,099,511,627,776 bytes, where 16,777,216 are the most"
    with pytest.raises(ValueError, match=message):
        files.read_json(path)
