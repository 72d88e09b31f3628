"""minivae compare."""

from pathlib import Path

from .. import plots
from ..comparison import compare
from ..engine.files import write_text
from ..engine.lock import writing_in
from ..engine.report import say
from ..runs import load_images, load_run
from .arguments import path_of
from .evaluate import add_measuring_options, measure

SUMMARY = "Put trained runs side by side."
EXAMPLE = "minivae compare runs/vae runs/iwae50 --images 1000 --k 1000"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("runs", type=path_of, nargs="+", metavar="RUN", help="The runs' folders.")
    option(
        "--out",
        type=path_of,
        default=Path("runs/comparison"),
        help="The folder of the table and the pictures.",
    )
    option(
        "--by",
        choices=plots.ABSCISSAS,
        default="epoch",
        help="What the learning curves go by.",
    )
    add_measuring_options(option)


def run(args):
    """Compare runs on the same test images, in a table and overlaid pictures.

    Each run is evaluated as by minivae evaluate, which is not done again where its
    parameters, the images and k are those of an evaluation that it keeps.
    """
    names = [path.name for path in args.runs]
    labels = [
        path.name if names.count(path.name) == 1 else str(path) for path in args.runs
    ]
    if len(set(labels)) < len(labels):
        raise ValueError(f"each run once; got {', '.join(map(str, args.runs))}")
    runs, evaluations = {}, {}
    for label, path in zip(labels, args.runs):
        runs[label] = load_run(path, args.device)
        image_set = load_images(runs[label], args.data)
        evaluations[label], _ = measure(args, runs[label], image_set)
    table = compare(runs, evaluations)
    with writing_in(args.out):
        write_text(args.out / "table.md", table)
        histories = {label: run.history for label, run in runs.items()}
        plots.learning_curves(histories, args.out / "learning_curves.png", args.by)
        plots.draw_evaluations(evaluations, args.out)
    say(f"{table}\n\nwritten: {args.out}")
    return 0
