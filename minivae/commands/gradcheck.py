"""minivae gradcheck."""

from ..engine.report import say
from ..gradcheck import gradcheck
from ..kernels import DEVICE_OF, NAMES

SUMMARY = "Check every gradient."
EXAMPLE = "minivae gradcheck --kernels numpy"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option(
        "--kernels",
        nargs="+",
        choices=[*DEVICE_OF],
        default=NAMES,
        help="The versions to check. Left out, they are those of a CPU.",
    )


def run(args):
    """Check every hand-written gradient in float64 against finite differences.

    The table gives the worst figure of each array, over bounds and kernels.
    """
    table, failed = gradcheck(args.kernels)
    say(table)
    return 1 if failed else 0
