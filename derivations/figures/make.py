"""Draw the pictures of the chapters:

    python derivations/figures/make.py [NAME ...]

Each is a function that `picture` decorates, in one of the three files that are imported
here, and one SVG beside this file; without a name, all are drawn.
"""

import sys
from pathlib import Path

import computed  # noqa: F401
import graphs  # noqa: F401
import measured  # noqa: F401
from style import FIGURES

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name](Path(__file__).parent)
