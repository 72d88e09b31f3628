"""``python -m minivae`` is the command ``minivae``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
