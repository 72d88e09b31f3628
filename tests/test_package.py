"""The package as it is installed, imported and described."""

import re
import subprocess
import sys
import venv
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


def test_modules_import_only_from_those_before_them():
    """As the package's docstring promises."""
    doc = python("import minivae; print(minivae.__doc__)")
    order = re.search(r"before it:\n\n(.*)", doc, re.S)[1].split()
    for i, name in enumerate(order):
        path = ROOT / "minivae" / name
        sources = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        for source in sources:
            text = source.read_text(encoding="utf-8")
            up = r"\.\." if path.is_dir() else r"\."  # within a folder, look out of it
            used = re.findall(rf"^ *from {up}(\w+) import", text, re.M)
            used += re.findall(rf"^ *from {up} import (.*)$", text, re.M)
            used = {part for entry in used for part in re.split(r", ", entry)}
            assert used <= {*order[:i]}, (name, used - {*order[:i]})
    files = {path.stem for path in (ROOT / "minivae").glob("*.py")} - {
        "__init__",
        "__main__",
    }
    assert files | {"kernels", "data"} == {*order}


def test_readme_counts_lines():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"\| `([\w/]+\.py)` \| (\d+) \|", readme))
    counts = {
        str(path.relative_to(ROOT / "minivae")): path.read_text("utf-8").count("\n")
        for path in (ROOT / "minivae").rglob("*.py")
    }
    assert {name: int(lines) for name, lines in stated.items()} == counts
    total = re.search(r"in all \*\*([\d,]+)\*\*", readme)[1].replace(",", "")
    assert int(total) == sum(counts.values())


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
