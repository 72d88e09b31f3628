"""minivae sample."""

from pathlib import Path

import numpy as np

from .. import plots
from ..data import load
from ..engine.report import say
from ..evaluation import images_seen
from ..model import VAE
from ..runs import load_images, load_run
from .arguments import RUN_DATA_HELP, data_of, path_of, positive, seed_of

SUMMARY = "Draw from a trained model."
EXAMPLE = (
    "minivae sample --out samples.png\n"
    "  minivae sample runs/iwae50 --n 64 --out samples.png"
)


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option(
        "run",
        type=path_of,
        nargs="?",
        help="A run's folder. Left out, it is the trained model that comes with"
        " minivae, an IWAE of MNIST.",
    )
    option("--n", type=positive, default=100, help="How many images to draw.")
    option(
        "--average",
        action="store_true",
        help="Take the running average of the parameters, if the run kept one.",
    )
    option("--seed", type=seed_of, default=0, help="The seed of the draws.")
    option(
        "--out",
        type=path_of,
        help="The PNG. Left out, it is in the run's figures, or, without a run, in the"
        " folder where you are.",
    )
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
    if args.run is None:
        for name in ("average", "data"):
            if getattr(args, name):
                raise ValueError(f"--{name} is for a run, and none is given")
        model, shape, folder = VAE.load(), None, Path()
    else:
        run = load_run(args.run)
        model = run.averaged() if args.average else run.model
        shape, folder = run.config.get("image_shape"), args.run / "figures"
    if args.out and args.out.suffix != ".png":
        raise ValueError(f"--out must end in .png; got {str(args.out)!r}")
    if args.n > plots.MOST_TILES:
        raise ValueError(
            f"--n: a picture holds at most {plots.MOST_TILES:,} images; got {args.n:,}"
        )
    if args.between:
        image_set = load_images(run, args.data) if args.run else load("mnist")
        for i in args.between:
            last = len(image_set.test_images) - 1
            if not 0 <= i <= last:
                raise ValueError(f"--between takes test images 0 to {last}; got {i}")
        x = images_seen(model, image_set.test_images[args.between], args.seed)
        out = args.out or folder / "interpolation.png"
        plots.interpolation(model, x, out, image_shape=image_set.image_shape)
        say(f"from test image {args.between[0]} to {args.between[1]}: {out}")
        return 0
    out = args.out or folder / "samples.png"
    plots.samples(model, out, np.random.default_rng(args.seed), args.n, shape)
    say(f"{args.n} samples: {out}")
    return 0
