"""minivae train."""

import argparse
import shlex
import warnings

import numpy as np

from .. import data, plots
from ..engine.checks import DTYPES
from ..engine.digest import digest_of_images
from ..engine.objective import BACKWARDS
from ..engine.registry import BOUNDS, CLOSED_FORMS, ESTIMATORS, bound_names
from ..engine.report import say
from ..engine.run_folder import images_named
from ..kernels import DEVICES, NAMES
from ..model import LIKELIHOODS, VAE
from ..presets import ARCHITECTURES, PRESETS
from ..runs import load_images, load_run
from ..settings import BINARIZATIONS, SCHEDULES
from ..training import train
from .arguments import (
    DATA_HELP,
    data_of,
    layers_of_sizes,
    path_of,
    positive,
    seed_of,
    sizes,
)

SUMMARY = "Train a model."
EXAMPLE = (
    "minivae train --bound iwae --k 50 --preset short --out runs/iwae50\n"
    "  (the same command again resumes where Ctrl-C or a kill stopped it)"
)

# the arguments of `minivae.train` that a preset may hold; one given here is taken
PRESETS_MAY_SET = (
    *("estimator", "backward", "tau", "epochs", "learning_rate", "schedule", "average"),
    *("epsilon", "batch", "binarization"),
)

# of `minivae.load`: how images are split
SPLITS = ("test_share", "label_column", "validation")


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("--out", type=path_of, required=True, help="The run's folder.")
    option(
        "--data",
        type=data_of,
        help=f"{DATA_HELP} Left out, it is mnist, or what --init-from was trained on.",
    )
    option(
        "--test-share",
        type=float,
        help="Of a file with one array and no test images: the share that becomes them,"
        " drawn by the seed. Left out, it is 0.1.",
    )
    option(
        "--label-column",
        help="The column of a .csv that holds labels: its name, or its number from 0"
        " on.",
    )
    option(
        "--validation",
        type=positive,
        help="Hold back so many images from the end of the training set, to choose by:"
        " their bound takes the place of the test images'.",
    )
    option(
        "--init-from",
        type=path_of,
        metavar="RUN",
        help="Start from the parameters of the run in this folder, with a fresh Adam:"
        " so a trained model's objective is switched. The architecture and, without"
        " --data, the images are that run's.",
    )
    option("--bound", choices=bound_names(), default="iwae", help="What is maximised.")
    option("--k", type=positive, default=50, help="How many samples an image has.")
    for name, (kind, help) in registered_options().items():
        option(f"--{name}", type=kind, help=help.replace("%", "%%"))
    option(
        "--estimator",
        choices=[*ESTIMATORS],
        help="How the gradient is estimated. Without a preset it is reparam.",
    )
    option(
        "--help-estimators",
        action=HelpEstimators,
        help="Show what each estimator is for, and exit.",
    )
    option(
        "--backward",
        choices=BACKWARDS,
        help="Which samples go through the backward pass: all, a single one, or the"
        " sparse choice of those that count. Without a preset it is all.",
    )
    option(
        "--tau",
        type=float,
        help="The threshold of --backward sparse: a smaller one keeps more samples."
        " Without a preset it is 0.1.",
    )
    option(
        "--preset",
        choices=[*PRESETS],
        help="Epochs, learning rates, batch and more in one word: burda has the paper's"
        " 3,280 epochs, fast comes near its figures in 328, short has 121.",
    )
    option(
        "--epochs",
        type=positive,
        help="How many epochs, at one learning rate. Without a preset it is 20.",
    )
    option(
        "--learning-rate",
        type=float,
        help="Adam's learning rate. Without a preset it is 1e-3.",
    )
    option(
        "--schedule",
        choices=SCHEDULES,
        help="How the learning rate changes: not at all, or along a cosine to zero."
        " Without a preset it is constant.",
    )
    option(
        "--average",
        type=float,
        metavar="DECAY",
        help="Keep a running average of the parameters, of a decay such as 0.999, for"
        " evaluate --average and sample --average.",
    )
    option("--epsilon", type=float, help="Adam's epsilon. Without a preset it is 1e-8.")
    option(
        "--batch",
        type=positive,
        help="How many images a step takes. Without a preset it is 100.",
    )
    option(
        "--layers",
        type=positive,
        help="How many stochastic layers: the paper's architecture of one or two, or"
        " more with --latent-dims and --hidden-dims. Left out, it is 1, or what these"
        " say.",
    )
    option(
        "--latent-dims",
        type=sizes,
        help="Latent units, if not the paper's: 100,50 has a comma between layers.",
    )
    option(
        "--hidden-dims",
        type=layers_of_sizes,
        help="Hidden units of q, if not the paper's: 200,200/100,100 has a slash"
        " between stochastic layers. p mirrors them.",
    )
    option(
        "--likelihood",
        choices=LIKELIHOODS,
        help="The distribution of the pixels given z. Left out, it is bernoulli.",
    )
    option(
        "--x-sigma",
        type=float,
        help="A fixed sigma for --likelihood gaussian. Without it sigma is learned.",
    )
    option(
        "--binarization",
        choices=BINARIZATIONS,
        help="Draw the pixels anew at each use (dynamic), once (fixed), or not at all.",
    )
    option(
        "--seed",
        type=seed_of,
        default=0,
        help="The seed of the weights, the order, the pixels and the noise.",
    )
    option(
        "--dtype",
        choices=DTYPES,
        help="The type of all arrays. Left out, it is float32.",
    )
    option("--device", choices=[*DEVICES], default="cpu", help="Where to compute.")
    option(
        "--kernels",
        choices=NAMES,
        help="The version of the kernels on a CPU. Left out, it is numba.",
    )


def run(args):
    """Train one model into a folder, and draw its pictures."""
    settings = {key: getattr(args, key) for key in PRESETS_MAY_SET}
    settings = {key: value for key, value in settings.items() if value is not None}
    if args.preset:
        if settings.keys() & {"epochs", "learning_rate"}:
            raise ValueError(
                f"--preset {args.preset} fixes the epochs and learning rates:"
                " leave --epochs and --learning-rate out"
            )
        settings = PRESETS[args.preset] | settings
    options = {name: getattr(args, name) for name in registered_options()}
    options = {key: value for key, value in options.items() if value is not None}
    dims = {} if args.init_from and not args.layers else architecture_of(args)
    origin = loaded_origin(args) if args.init_from else None
    image_set = images_of(args, origin)
    split = "test" if image_set.validation_images is None else "validation"
    held_out = getattr(image_set, f"{split}_images")
    model = first_model(args, dims, image_set.train_images, origin)
    result = train(
        model,
        image_set.train_images,
        args.bound,
        args.k,
        **settings,
        **options,
        seed=args.seed,
        folder=args.out,
        data=image_set,
        **{f"{split}_images": held_out},
    )
    history, figures = result.history, args.out / "figures"
    plots.learning_curves(result.lineage(), figures / "learning_curves.png")
    plots.draw_model(model, held_out, figures, image_set.image_shape)
    say(
        f"epoch {history['epoch'][-1]}: bound {history['bound'][-1]:.2f} nats in"
        f" training, {history[f'{split}_bound'][-1]:.2f} on {split} images\n"
        f"run: {args.out}   pictures: {figures}"
    )
    which = [] if split == "test" else ["--split", split]
    say("next: " + shlex.join(["minivae", "evaluate", str(args.out), *which]))
    return 0


def images_of(args, origin):
    """The image set that is asked for; without a word, that of the run ``origin``."""
    given = {name: getattr(args, name) for name in SPLITS}
    given = {name: value for name, value in given.items() if value is not None}
    if args.data is None and origin is not None:
        if given:
            name = f"--{next(iter(given)).replace('_', '-')}"
            raise ValueError(f"{name} needs --data: without it, {args.init_from} says")
        return load_images(origin)
    return data.load(args.data or "mnist", **given, seed=args.seed)


def first_model(args, dims, images, origin):
    """The model that training starts with: a fresh one of these latent_dims and
    hidden_dims, or that of the run ``origin``.
    """
    given = {
        "x_dim": images.shape[1],
        "latent_dims": args.latent_dims,
        "hidden_dims": args.hidden_dims,
        "likelihood": args.likelihood,
        "x_sigma": args.x_sigma,
        "dtype": args.dtype,
        **dims,
    }
    given = {name: value for name, value in given.items() if value is not None}
    where = {"device": args.device, "kernels": args.kernels}
    rng = np.random.default_rng(args.seed)
    if origin is None:
        return VAE(**given, **where, x_mean=images.mean(axis=0), rng=rng)
    there, digest = origin.model, origin.config.get("digest")
    other = [
        f"{name} is {getattr(there, name)} there, {value} here"
        for name, value in given.items()
        if getattr(there, name) != value
    ]
    if other:
        raise ValueError(
            f"--init-from {args.init_from}: another architecture ({'; '.join(other)})"
        )
    if digest not in (None, digest_of_images(images)):
        warnings.warn(
            f"{origin.folder} was trained on {images_named(origin.config)}, and this"
            " run is on others",
            stacklevel=2,
        )
    model = VAE(**(there.config() | where), rng=rng)
    model.params.vector[...] = model.to_device(there.params.vector)
    model.origin = there.origin
    return model


def loaded_origin(args):
    """The run of --init-from; where --out holds one that began there, that one, which
    needs it no more.
    """
    if (args.out / "checkpoint.npz").is_file():
        there = load_run(args.out)
        origin = there.config.get("origin") or {}
        if origin.get("run") == str(args.init_from):
            return there
    return load_run(args.init_from)


def architecture_of(args):
    """The model's latent_dims and hidden_dims, as asked for or the paper's."""
    own = {"latent_dims": args.latent_dims, "hidden_dims": args.hidden_dims}
    own = {name: dims for name, dims in own.items() if dims is not None}
    layers = args.layers or max(map(len, own.values()), default=1)
    # more layers than one need both, or the word that they are the paper's
    paper = ARCHITECTURES.get(layers, {}) if layers == 1 or args.layers else {}
    architecture = paper | own
    lengths = [len(architecture.get(name, ())) for name in ARCHITECTURES[1]]
    if lengths != [layers, layers]:
        latent, hidden = ",".join(["50"] * layers), "/".join(["200,200"] * layers)
        or_paper = f", or --layers {layers} alone" if layers in ARCHITECTURES else ""
        raise ValueError(
            f"{layers} stochastic layers need as many sizes and groups of sizes: say"
            f" --latent-dims {latent} --hidden-dims {hidden}, or the like{or_paper}"
        )
    return architecture


def registered_options():
    """The options of all bounds and estimators, by name: type, and a line of help."""
    owners = {}  # option -> who has it
    for kind, registry in (("bound", BOUNDS), ("estimator", ESTIMATORS)):
        for entry in registry.values():
            for name, option in entry.options.items():
                if name != "baseline":  # which training fills in
                    owners.setdefault(name, []).append((f"{kind} {entry.name}", option))
    return {
        name: (
            pairs[0][1].type,
            f"Of {' and '.join(owner for owner, _ in pairs)}: {pairs[0][1].help}.",
        )
        for name, pairs in owners.items()
    }


class HelpEstimators(argparse.Action):
    """Print what each estimator claims, and which bounds it is for."""

    def __init__(self, *args, **settings):
        super().__init__(*args, nargs=0, **settings)

    def __call__(self, parser, *args):
        say(f"{'estimator':<10} {'bounds':<8} what it estimates")
        for name, entry in ESTIMATORS.items():
            say(f"{name:<10} {entry.only_for or 'all':<8} {entry.summary}")
            if entry.only_for:
                say(f"{'':<19} ({entry.because})")
        say(f"\nall: {', '.join(BOUNDS)}. {', '.join(CLOSED_FORMS)} is no function")
        say("of the log-weights: it has reparam only.")
        parser.exit()
