"""The chapters' pictures: each is drawn by a function, shown, and said in words."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "derivations/figures"
IMAGE = re.compile(r"^!\[([^\]]*)\]\(figures/(\w+)\.svg\)\n\n(?=\S)", re.M)


@pytest.fixture(scope="module")
def figures():
    """Name -> function of a folder, as make.py has them."""
    sys.path.insert(0, str(FOLDER))
    try:
        import make
    finally:
        sys.path.remove(str(FOLDER))
    return make.FIGURES


def test_each_is_drawn_committed_and_shown(figures):
    drawn = {path.stem for path in FOLDER.glob("*.svg")}
    chapters = [
        path.read_text(encoding="utf-8") for path in ROOT.glob("derivations/*.md")
    ]
    shown = [image for text in chapters for image in IMAGE.findall(text)]
    assert sum(text.count("](figures/") for text in chapters) == len(shown)
    assert figures.keys() == drawn == {name for _, name in shown}
    assert len(shown) == len(drawn), "one is shown twice"
    for alt, name in shown:
        assert len(alt.split()) >= 15, f"{name}: say in words what is to be seen"


def test_a_dark_page_shows_them_on_white():
    for path in FOLDER.glob("*.svg"):
        background = path.read_text(encoding="utf-8").split('<g id="patch_1">')[1]
        assert 'style="fill: #ffffff"' in background.split("</g>")[0], path.name


def test_drawing_writes_the_file_of_its_name(figures, tmp_path):
    figures["graphical_model"](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["graphical_model.svg"]


@pytest.mark.slow
def test_all_can_be_drawn(figures, tmp_path):
    for draw in figures.values():
        draw(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {path.name for path in FOLDER.glob("*.svg")}
