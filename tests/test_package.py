"""The package as it is installed, imported and described."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(code, executable=sys.executable):
    result = subprocess.run(
        [executable, "-c", code], capture_output=True, text=True, cwd="/", check=True
    )
    return result.stdout.strip()


def test_heavy_modules_load_when_they_are_needed():
    loaded = python("import minivae, sys; print(*sys.modules)").split()
    assert not {"matplotlib", "scipy.special", "scipy.io", "pooch", "cupy"} & {*loaded}


def test_import_is_cheap():
    """At most 0.5 s over `import numba`, which it needs: processor time, least of 3."""
    clock = "import time, {}; print(time.process_time())"
    times = {
        name: min(float(python(clock.format(name))) for _ in range(3))
        for name in ("numba", "minivae")
    }
    assert times["minivae"] - times["numba"] < 0.5, times


def test_every_folder_is_a_package():
    """Or setup.py would not find it, and an installed minivae lack it."""
    folders = {path.parent for path in (ROOT / "minivae").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert {"minivae", "minivae.engine", "minivae.experiments"} <= names
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert 'find_packages(include=["minivae", "minivae.*"])' in setup


def test_there_is_one_version():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'version="([\d.]+)"', setup)
    assert python("import minivae; print(minivae.__version__)") == version


def test_a_checkout_that_is_not_installed(tmp_path):
    """As benchmarks/gpu_check.sh has it, with the folder on the path."""
    others = {
        path.name: path
        for folder in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
        for path in Path(folder).iterdir()
        if "minivae" not in path.name and path.suffix != ".pth"
    }
    for name, path in (others | {"minivae": ROOT / "minivae"}).items():
        (tmp_path / name).symlink_to(path)
    result = subprocess.run(
        [sys.executable, "-S", "-c", "import minivae; print(minivae.__file__)"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "minivae" / "__init__.py")


def test_readme_counts_lines():
    """Of the files that chapters 1 to 12 name: fewer than it says, and not by much."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"fewer than ([\d,]+) lines\s+together", readme)[1]
    most = int(stated.replace(",", ""))
    rows = dict(re.findall(r"^\| \[(\d+)\. (.*)$", readme, re.M))
    assert list(map(int, rows)) == list(range(len(rows))) and len(rows) > 25
    named = {
        target
        for chapter in range(1, 13)
        for target in re.findall(r"\]\((minivae/[\w/]+\.py)\)", rows[str(chapter)])
    }
    assert {"minivae/gradient.py", "minivae/kernels/softmax.py"} <= named
    lines = sum((ROOT / n).read_text(encoding="utf-8").count("\n") for n in named)
    assert 0.9 * most < lines < most


def test_readme_links():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_sdist_and_wheel(tmp_path):
    """An sdist, a wheel from that sdist, and the wheel in a clean environment."""
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("minivae-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {n for n in archive.namelist() if n.startswith("minivae/")}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "minivae").rglob("*")
        if path.suffix in (".py", ".gz", ".npz", ".md", ".typed")
    }
    assert shipped == there
    assert list(tmp_path.glob("minivae-*.tar.gz"))
    venv.create(tmp_path / "env", with_pip=True)
    bin_path = tmp_path / "env" / "bin"
    subprocess.run([bin_path / "pip", "install", "--quiet", wheel], check=True)
    where = python("import minivae; print(minivae.__file__)", bin_path / "python")
    assert str(tmp_path) in where
    shape = "import minivae as mv; print(mv.load('mnist').train_images.shape)"
    assert python(shape, bin_path / "python") == "(60000, 784)"
    run = [bin_path / "minivae", "gradcheck", "--kernels", "numpy"]
    result = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0 and "; 0 failed" in result.stdout, result.stderr


CACHED = """
import sys, warnings, numpy as np
from minivae.kernels.tanh import VERSIONS
print(VERSIONS["numba"].tanh(np.zeros((1, 1)), np.zeros(1))[0, 0])
"""


@pytest.mark.parametrize("ending, size", [("nbi", 0), ("nbi", 40), ("nbc", 99)])
def test_a_damaged_numba_cache_is_compiled_anew(tmp_path, ending, size):
    """Once, with a warning that names the folder."""

    def run():
        env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", CACHED]
        result = subprocess.run(command, capture_output=True, text=True, env=env)
        assert result.stdout == "0.0\n", result.stderr
        return result.stderr

    assert run() == ""
    for path in tmp_path.rglob(f"*.{ending}"):
        os.truncate(path, size)
    warning = run()
    assert f"{path.parent}: Numba's cache there is damaged" in warning
    assert "Traceback" not in warning and run() == ""
