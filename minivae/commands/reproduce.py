"""minivae reproduce."""

from pathlib import Path

from ..engine.lock import writing_in
from ..engine.report import say
from ..experiments import EXPERIMENTS
from .arguments import path_of

SUMMARY = "Measure the estimators."
EXAMPLE = "minivae reproduce snr --out runs/snr"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("experiment", choices=[*EXPERIMENTS], help="What to measure.")
    option("--out", type=path_of, help="The folder. Left out, it is runs/EXPERIMENT.")


def run(args):
    """Measure the family, and write the table, the raw numbers and the picture.

    snr: signal-to-noise ratio of the gradients against K, on the linear-Gaussian toy of
    Rainforth et al. (2018) and on an MNIST model. estimators: the same model trained by
    each estimator. sparse: the sparse backward against the dense one, by NLL and time.
    The same command again resumes each where it was stopped.
    """
    folder = args.out or Path("runs") / args.experiment
    with writing_in(folder):
        table = EXPERIMENTS[args.experiment](folder)
    say(f"{table}\n\nwritten: {folder}")
    return 0
