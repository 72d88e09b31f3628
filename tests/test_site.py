"""The derivations' site: its Markdown, its notebooks, and what a browser shows of it.

The tests marked `site` look at build/site, which `make test-site` makes first.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SITE = ROOT / "build" / "site"
CHAPTERS = sorted((ROOT / "derivations").glob("[0-9][0-9]_*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
sys.path.append(str(ROOT / "derivations" / "site"))

from dialect import cite, equations, to_myst  # noqa: E402
from links import check  # noqa: E402


def text(path):
    return path.read_text(encoding="utf-8")


def test_githubs_markdown_becomes_mysts():
    github = """\
<a id="eq-a"></a>

```math
x \\tag{1.1}
```

Code: [`f`](../minivae/a.py)

[Eq. (1.1)](01_a.md#eq-a) has $`\\sigma`$ and $K$, see
[`a.py`](../minivae/a.py) in [all](../minivae).

```python
cost = "$`x`$"  # eq. 1.1
```
"""
    myst = to_myst(github, {"minivae/a.py": "source/minivae/a.html"}.get)
    assert (
        myst
        == """\
(eq-a)=

```{math}
x \\tag{1.1}
```

```{panel} minivae/a.py f
```

[Eq. (1.1)](#eq-a) has {math}`\\sigma` and $K$, see
<a href="source/minivae/a.html">`a.py`</a> in all.

```python
cost = "$`x`$"  # eq. 1.1
```
""".replace("f\n```\n\n[", "f\n```\n[")
    )  # the number of lines is kept
    assert myst.count("\n") == github.count("\n")
    assert equations({"01_a": github}) == {"1.1": ("01_a", "eq-a")}


def test_citations_become_links():
    cited = cite("# eqs. 8.4 to 8.6, as 9.1 in eq. 1.2", lambda number: f"<{number}>")
    assert cited == "# eqs. <8.4> to <8.6>, as 9.1 in eq. <1.2>"


def test_the_sites_own_pages_name_the_right_equations():
    known = equations({path.stem: text(path) for path in CHAPTERS})
    found = 0
    for path in (ROOT / "derivations/site/pages").glob("*.md"):
        for number, anchor in re.findall(
            r"\[Eq\. \(([\d.]+)\)\]\(#([\w-]+)\)", text(path)
        ):
            assert known[number][1] == anchor.lower(), (path.name, number)
            found += 1
    assert found >= 10


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a id="here" href="b.html#there"></a><a href="a.html#here"></a>'
        '<a href="b.html#gone"></a><a href="c.html"></a><a href="https://x.org"></a>'
        '<script src="https://x.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    faults, external = check(tmp_path)
    assert faults == [
        "a.html links to b.html#gone: no such anchor",
        "a.html links to c.html, which is not there",
        "a.html loads https://x.org/x.js from a network",
    ]
    assert external == ["https://x.org", "https://x.org/x.js"]


# The built site


@pytest.fixture(scope="module")
def site():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make site")
    return SITE


def code_cells(site, chapter):
    book = json.loads(text(site / "notebooks" / f"{chapter.stem}.ipynb"))
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]


@pytest.mark.site
def test_a_notebook_holds_its_chapters_blocks_in_order(site):
    import nbformat

    for chapter in CHAPTERS:
        blocks = [block.rstrip("\n") for block in BLOCK.findall(text(chapter))]
        assert code_cells(site, chapter) == blocks, chapter.name
        book = nbformat.read(site / "notebooks" / f"{chapter.stem}.ipynb", 4)
        nbformat.validate(book)
        prose = "".join(cell.source for cell in book.cells if cell.cell_type != "code")
        assert "```math" not in prose and "$`" not in prose and "<details" not in prose


@pytest.mark.site
def test_a_notebook_runs(site):
    names = {"__name__": "__main__"}
    for cell in code_cells(site, ROOT / "derivations/09_iwae_bound.md"):
        exec(cell, names)
    assert "log_px" in names  # the cells have assertions of their own


@pytest.mark.site
def test_no_link_leads_nowhere_and_nothing_is_loaded_from_a_network(site):
    faults, _ = check(site)
    assert not faults


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium in which every error of a page's console can be read."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        pytest.skip("needs a browser: Debian's packages chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


def resize(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def errors(browser):
    return [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]


# What a reader would see of a formula that was not set: TeX, outside of code and of the
# hidden copy that KaTeX keeps for screen readers
SOURCE_LEFT = r"""
const article = document.querySelector("article");
const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
const left = [];
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (node.parentElement.closest("code, pre, .katex-mathml, script")) continue;
  if (/\\[a-zA-Z]+|\$|```|\{math\}|\[Eq/.test(node.data)) left.push(node.data);
}
return left;
"""
SHAPE = """
const box = (selector) => document.querySelector(selector)?.getBoundingClientRect();
const text = box(".pair-text"), code = box(".pair-code");
return {
  formulas: document.querySelectorAll(".katex").length,
  wide: document.documentElement.scrollWidth - window.innerWidth,
  beside: text && text.right < code.left,
  below: text && text.bottom <= code.top,
};
"""


@pytest.mark.site
@pytest.mark.parametrize("width", [1600, 400])
def test_every_chapter_in_a_browser(site, browser, width):
    resize(browser, width)
    for chapter in CHAPTERS:
        browser.get((site / f"{chapter.stem}.html").as_uri())
        assert not errors(browser), chapter.name
        assert not browser.execute_script(SOURCE_LEFT), chapter.name
        shape = browser.execute_script(SHAPE)
        assert shape["wide"] <= 0, f"{chapter.name} scrolls sideways"
        if chapter.name[:2] not in ("00", "25"):
            assert shape["formulas"] > 0, chapter.name
        if "\nCode: [`" in text(chapter):
            found = shape["beside"], shape["below"]
            assert found == (width == 1600, width == 400), chapter.name


@pytest.mark.site
def test_the_other_pages_in_a_browser(site, browser):
    resize(browser, 1600)
    for page in ("index", "notation", "glossary", "papers", "against", "api/index"):
        browser.get((site / f"{page}.html").as_uri())
        assert not errors(browser), page
        assert not browser.execute_script(SOURCE_LEFT), page
    browser.get((site / "index.html").as_uri())
    last = "[...document.querySelectorAll('article p')].pop()"
    bottom = f"return {last}.getBoundingClientRect().bottom"
    assert browser.execute_script(bottom) <= 900, "the front page is one screen"


@pytest.mark.site
def test_the_figures_move_with_the_keyboard_and_say_what_they_show(site, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get((site / "try.html").as_uri())
    for name in ("k", "sigma", "modes"):
        figure = browser.find_element(By.ID, f"figure-{name}")
        before = figure.find_element(By.CLASS_NAME, "sentence").text
        slider = figure.find_element(By.TAG_NAME, "input")
        slider.send_keys(Keys.ARROW_LEFT if name == "sigma" else Keys.ARROW_RIGHT)
        assert figure.find_element(By.CLASS_NAME, "sentence").text != before
    figure.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert (
        "log p(x) = \u22121.83" in figure.find_element(By.CLASS_NAME, "sentence").text
    )
    slider.send_keys(Keys.END)  # K = 50
    figure.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert "\u22121.87 nats" in figure.find_element(By.CLASS_NAME, "sentence").text
    assert not errors(browser)


@pytest.mark.site
def test_search_works_from_a_file(site, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((site / "search.html").as_uri() + "?q=jackknife")
    WebDriverWait(browser, 10).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert not errors(browser)
