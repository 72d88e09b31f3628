"""minivae demo."""

from pathlib import Path

from ..engine.lock import writing_in
from ..engine.report import say
from ..experiments.demo import demo
from .arguments import path_of

SUMMARY = "Train a VAE and an IWAE on MNIST in minutes, and compare them."
EXAMPLE = "minivae demo --out runs/demo"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("--out", type=path_of, default=Path("runs/demo"), help="The folder.")


def run(args):
    """Train a VAE and an IWAE on MNIST, and compare them in a table and pictures."""
    with writing_in(args.out):
        table = demo(args.out)
    say(f"\n{table}\nPictures: {args.out}/*.png and {args.out}/*/figures/*.png")
    return 0
