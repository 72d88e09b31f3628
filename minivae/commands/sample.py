"""minivae sample."""

import numpy as np

from .. import plots
from ..engine.report import say
from ..evaluation import images_seen
from ..runs import load_images, load_run
from .arguments import RUN_DATA_HELP, data_of, path_of, positive, seed_of

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
    option("--seed", type=seed_of, default=0, help="The seed of the draws.")
    option("--out", type=path_of, help="The PNG. Left out, it is in the run's figures.")
    option("--data", type=data_of, help=RUN_DATA_HELP)
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
    if args.n > plots.MOST_TILES:
        raise ValueError(
            f"--n: a picture holds at most {plots.MOST_TILES:,} images; got {args.n:,}"
        )
    shape = run.config.get("image_shape")
    if args.between:
        image_set = load_images(run, args.data)
        for i in args.between:
            last = len(image_set.test_images) - 1
            if not 0 <= i <= last:
                raise ValueError(f"--between takes test images 0 to {last}; got {i}")
        x = images_seen(model, image_set.test_images[args.between], args.seed)
        out = args.out or args.run / "figures" / "interpolation.png"
        plots.interpolation(model, x, out, image_shape=image_set.image_shape)
        say(f"from test image {args.between[0]} to {args.between[1]}: {out}")
        return 0
    out = args.out or args.run / "figures" / "samples.png"
    plots.samples(model, out, np.random.default_rng(args.seed), args.n, shape)
    say(f"{args.n} samples: {out}")
    return 0
