"""minivae reference."""

from pathlib import Path

from ..engine.report import say
from ..reference import write_reference
from .arguments import path_of

SUMMARY = "Write reference values for an implementation of your own."
EXAMPLE = "minivae reference --out ref.npz"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("--out", type=path_of, default=Path("ref.npz"), help="The .npz file.")


def run(args):
    """Write parameters, images, noise, log-weights, every bound and every gradient.

    Whoever writes an IWAE in another framework checks it against this file; its member
    README explains the names: print(numpy.load("ref.npz")["README"]).
    """
    n = write_reference(args.out)
    say(f"{n} arrays: {args.out}   print(numpy.load({str(args.out)!r})['README'])")
    return 0
