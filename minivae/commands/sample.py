"""minivae sample."""

import numpy as np

from .. import data, plots
from ..engine.report import say
from ..runs import load_run
from .arguments import DATA_PATH_HELP, path_of, positive

SUMMARY = "Draw from a trained model."
EXAMPLE = "minivae sample runs/iwae50 --n 64 --out samples.png"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("run", type=path_of, help="A run's folder.")
    option("--n", type=positive, default=100, help="How many images to draw.")
    option(
        "--average",
        action="store_true",
        help="Take the running average of the parameters, if the run kept one.",
    )
    option("--seed", type=int, default=0, help="The seed of the draws.")
    option("--out", type=path_of, help="The PNG. Left out, it is in the run's figures.")
    option("--data-path", type=path_of, help=DATA_PATH_HELP)
    option(
        "--between",
        type=int,
        nargs=2,
        metavar="I",
        help="Draw the way from one test image to another, by their numbers.",
    )


def run(args):
    """Draw from a run's model into a PNG: the means of p(x|z) at ancestral samples.

    With --between, what the model sees on the way from one test image to another.
    """
    run = load_run(args.run)
    model = run.averaged() if args.average else run.model
    if args.out and args.out.suffix != ".png":
        raise ValueError(f"--out must end in .png; got {str(args.out)!r}")
    if args.between:
        image_set = data.load(run.config.get("data") or "mnist", args.data_path)
        for i in args.between:
            last = len(image_set.test_images) - 1
            if not 0 <= i <= last:
                raise ValueError(f"--between takes test images 0 to {last}; got {i}")
        x = image_set.test_images[args.between]
        if model.likelihood == "bernoulli":
            x = data.binarize(x, np.random.default_rng(args.seed))
        out = args.out or args.run / "figures" / "interpolation.png"
        plots.interpolation(model, x, out)
        say(f"from test image {args.between[0]} to {args.between[1]}: {out}")
        return 0
    out = args.out or args.run / "figures" / "samples.png"
    plots.samples(model, out, np.random.default_rng(args.seed), args.n)
    say(f"{args.n} samples: {out}")
    return 0
