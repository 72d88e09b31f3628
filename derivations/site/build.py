"""Build the site: `python derivations/site/build.py build/site`.

The chapters are rewritten from GitHub's Markdown to MyST's, the pages of the API
reference are laid beside them, and Sphinx makes HTML of it all in which nothing is
loaded from a network. Any warning and any link that leads nowhere is an error.
"""

import argparse
import json
import posixpath
import re
import shutil
import time
from functools import partial
from pathlib import Path

import nbformat
from dialect import to_myst
from links import check
from notebooks import notebook
from numbers_of_figures import numbers
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ORPHAN = "---\norphan: true\n---\n"  # not in the list of pages beside every page
# to another file of the repository
LINK = re.compile(
    r"(?P<picture>!?)\[(?P<text>[^]]*)\]\((?P<target>(?!https?:)[^)#]+)\)"
)
CHAPTERS = sorted(HERE.parent.glob("[0-9][0-9]_*.md"))


class Layout:
    """The sources of the site, in a folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.files = folder / "extra"  # copied to the site as they are
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def page_of(self, file):
        """The page that shows a file of the repository, or None for a folder."""
        path = ROOT / file
        if not path.exists():
            raise SystemExit(f"a page links to {file}, which is not there")
        if path.is_dir():
            return None
        if path in CHAPTERS:
            return f"{path.stem}.html"
        if path.suffix == ".py" and file.startswith("minivae/"):
            return f"source/{file.removesuffix('.py')}.html"
        if path.suffix == ".md":
            if not (self.folder / file).exists():
                self.write(file, "")  # two pages may link to each other
                text = path.read_text(encoding="utf-8")
                self.write(file, ORPHAN + LINK.sub(partial(self.link, file), text))
            return f"{file.removesuffix('.md')}.html"
        self.copy(file, self.files / "files")
        return f"files/{file}"

    def link(self, file, match):
        """A link of the page that shows ``file``: to a page, or to a picture."""
        here = posixpath.dirname(file)
        target = posixpath.normpath(posixpath.join(here, match["target"]))
        if match["picture"]:
            self.copy(target, self.folder)
            return match[0]
        page = self.page_of(target)
        to = posixpath.relpath(page, here) if page else None
        return f'<a href="{to}">{match["text"]}</a>' if to else match["text"]

    def copy(self, file, folder):
        copy = folder / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)


def lay_out(folder):
    """Write the sources of all pages into a folder."""
    layout = Layout(folder)
    if (HERE.parent / "figures").is_dir():
        shutil.copytree(HERE.parent / "figures", folder / "figures")
    (layout.files / "notebooks").mkdir(parents=True)
    for path in [*CHAPTERS, *sorted((HERE / "pages").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        layout.write(path.name, to_myst(text, layout.page_of))
    for path in CHAPTERS:
        book = layout.files / "notebooks" / f"{path.stem}.ipynb"
        nbformat.write(notebook(path), book)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "minivae").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    for module in modules:
        again = "   :no-index:\n" if module == "minivae" else ""  # what it imports
        directive = f"```{{eval-rst}}\n.. automodule:: {module}\n{again}```\n"
        layout.write(f"api/{module}.md", f"{ORPHAN}# {module}\n\n{directive}")
    entries = "\n".join(f"* [`{module}`]({module}.md)" for module in modules)
    text = f"# API reference\n\nFrom the docstrings of each module.\n\n{entries}\n"
    layout.write("api/index.md", text)
    shutil.copy(ROOT / "benchmarks/results/against/against.md", folder)
    layout.write(
        "extra/_static/numbers.js",
        f"window.MINIVAE = {json.dumps(numbers(), separators=(',', ':'))};\n",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder of the site")
    out = parser.parse_args().out.resolve()
    start = time.perf_counter()
    work = out.with_name(out.name + "-work")
    lay_out(work / "sources")
    shutil.rmtree(out, ignore_errors=True)
    options = [
        "-q",
        "-W",
        "--keep-going",
        "-E",
        "-c",
        str(HERE),
        "-d",
        str(work / "doctrees"),
    ]
    options += ["-D", f"html_extra_path={work / 'sources/extra'}"]
    options += ["-D", "exclude_patterns=extra"]
    if sphinx([*options, str(work / "sources"), str(out)]):
        raise SystemExit("the site was not built: see the warnings above")
    faults, external = check(out)
    if faults:
        raise SystemExit("\n".join(faults))
    listed = work / "external_links.txt"
    listed.write_text("\n".join([*external, ""]), encoding="utf-8")
    pages, seconds = len(list(out.rglob("*.html"))), time.perf_counter() - start
    print(f"{out / 'index.html'}: {pages} pages in {seconds:.0f} s")
    print(f"Links that lead elsewhere, not followed: {listed} ({len(external)})")


if __name__ == "__main__":
    main()
