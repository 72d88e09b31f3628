"""Sphinx's settings. build.py lays out the sources and calls Sphinx."""

import importlib
import inspect
from pathlib import Path

from dialect import equations as find_equations

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

project = "minivae"
author = "The minivae authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.linkcode", "extension"]
myst_enable_extensions = ["dollarmath", "attrs_block", "colon_fence"]
myst_links_external_new_tab = False
default_role = "literal"  # in docstrings
napoleon_google_docstring = False
napoleon_use_ivar = True  # an attribute is described once
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"

CHAPTERS = sorted((HERE.parent).glob("[0-9][0-9]_*.md"))
equations = find_equations({p.stem: p.read_text(encoding="utf-8") for p in CHAPTERS})

html_theme = "furo"
html_title = "minivae"
html_static_path = ["static"]
html_css_files = ["minivae.css"]
html_js_files = ["numbers.js", "figures.js"]
html_math_renderer = "build"
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which file:// forbids
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def linkcode_resolve(domain, info):
    """From an entry of the API reference, which is a page in api/, to its source."""
    if not info["module"]:
        return None
    found = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        found = getattr(found, name, None)
    found = inspect.unwrap(getattr(found, "py_func", found))
    try:
        file = Path(inspect.getsourcefile(found)).relative_to(ROOT)
        line = inspect.getsourcelines(found)[1]
    except (TypeError, OSError, ValueError):  # a value, or made by somebody else
        return None
    return f"../source/{file.with_suffix('.html').as_posix()}#L-{line}"
