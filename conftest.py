"""Python blocks in the chapters and the README, and doctests in the package, are tests;
a skip needs a reason we know.
"""

import os
import sys
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

import pytest
from hypothesis import settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE
# the first example of a test may compile a kernel; the examples are the same every time
settings.register_profile("minivae", deadline=None, derandomize=True)
settings.load_profile("minivae")
# reasons, word for word, for which a test may be skipped; in `make test-compile` none
KNOWN_SKIPS = (
    "compiling needs NVVM: pip install 'minivae[compile]'",
    "needs Dask: pip install 'minivae[cluster]'",
    "this block needs PyTorch",
    "this block needs JAX",
    "the site is not built: make site",
    "needs a browser: Debian's packages chromium and chromium-driver",
)
if sys.platform != "linux":
    KNOWN_SKIPS += tuple(
        f"this system has no {thing}"
        for thing in ("fork", "named pipes", "/proc", "/dev/full")
    )
if "NO_SKIPS" in os.environ:
    KNOWN_SKIPS = ()

markdown = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=FLAGS), SkipParser()],
    patterns=["derivations/*.md", "README.md"],
)
docstrings = Sybil(
    parsers=[DocTestParser(FLAGS)],
    patterns=["minivae/*.py", "minivae/*/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (markdown + docstrings).pytest()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = (
            report.longrepr[2].removeprefix("Skipped: ")
            if isinstance(report.longrepr, tuple)
            else ""
        )
        if reason not in KNOWN_SKIPS:
            report.outcome, report.longrepr = (
                "failed",
                f"skipped for a reason that is not on the list: {reason}",
            )
    return report
