"""The command line: minivae train | evaluate | sample | gradcheck | reproduce | demo.

Exit codes: 0 done; 1 the run or the check failed; 2 wrong use or bad input; 130 stopped
by Ctrl-C.
"""

import argparse
import errno
import inspect
import os
import shlex
import warnings
from pathlib import Path

import numpy as np

from . import __version__, plots
from .data import binarize, load
from .engine.checks import DTYPES
from .engine.files import write_json
from .engine.lock import writing_in
from .engine.objective import BACKWARDS
from .engine.registry import BOUNDS, CLOSED_FORMS, ESTIMATORS, bound_names
from .engine.report import flush_all, open_missing_descriptors, say, warn_in_a_line
from .engine.threads import ask_for
from .evaluation import evaluate
from .experiments import EXPERIMENTS
from .experiments.demo import demo
from .gradcheck import gradcheck
from .kernels import DEVICE_OF, DEVICES, NAMES
from .model import LIKELIHOODS, VAE
from .runs import load_run
from .settings import BINARIZATIONS, PRESETS, SCHEDULES
from .training import NonFiniteError, train

RESUME = "The same command again resumes there."
# the paper's architectures, by the number of stochastic layers
ARCHITECTURES = {
    1: {"latent_dims": (50,), "hidden_dims": ((200, 200),)},
    2: {"latent_dims": (100, 50), "hidden_dims": ((200, 200), (100, 100))},
}
DATA_PATH_HELP = (
    "The path of OMNIGLOT's published chardata.mat, or of an .npz made from another."
    " Left out, it is fetched."
)


def main(argv=None):
    """Run one command; return its exit code."""
    open_missing_descriptors()
    with warnings.catch_warnings():
        warnings.showwarning = warn_in_a_line
        try:
            return run_command(argv)
        finally:
            flush_all()


def run_command(argv):
    """`main`, without what it keeps of the process."""
    try:
        args = parser().parse_args(argv)
        limit_threads(args.threads)
        return args.command(args)
    except KeyboardInterrupt as stop:
        reason = f"{stop}. {RESUME}" if str(stop) else "stopped"
        say(f"\nminivae: {reason}", "stderr")
        return 130
    except (NonFiniteError, MemoryError) as error:
        say(f"minivae: the run failed: {error}", "stderr")
        return 1
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        say(f"minivae: error: {error}", "stderr")
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        return 1 if full else 2


def train_command(args):
    """Train one model into a folder, and draw its pictures."""
    given = ("epochs", "learning_rate", "batch", "epsilon", "schedule", "average")
    settings = {key: getattr(args, key) for key in given}
    settings = {key: value for key, value in settings.items() if value is not None}
    if args.preset:
        if settings.keys() & {"epochs", "learning_rate"}:
            raise ValueError(
                f"--preset {args.preset} fixes the epochs and learning rates:"
                " leave --epochs and --learning-rate out"
            )
        settings = PRESETS[args.preset] | settings
    shape = ARCHITECTURES[args.layers].copy()
    own = {"latent_dims": args.latent_dims, "hidden_dims": args.hidden_dims}
    shape |= {key: value for key, value in own.items() if value is not None}
    options = {name: getattr(args, name) for name in registered_options()}
    options = {key: value for key, value in options.items() if value is not None}
    data = load(args.data, args.data_path)
    model = VAE(
        x_dim=data.train_images.shape[1],
        **shape,
        likelihood=args.likelihood,
        x_sigma=args.x_sigma,
        dtype=args.dtype,
        rng=np.random.default_rng(args.seed),
        x_mean=data.train_images.mean(axis=0),
        device=args.device,
        kernels=args.kernels,
    )
    history = train(
        model,
        data.train_images,
        args.bound,
        args.k,
        args.estimator,
        **settings,
        **options,
        binarization=args.binarization,
        backward=args.backward,
        tau=args.tau,
        seed=args.seed,
        folder=args.out,
        data=args.data,
        test_images=data.test_images,
    ).history
    figures = args.out / "figures"
    label = f"{args.bound}, k = {args.k}"
    plots.learning_curves({label: history}, figures / "learning_curves.png")
    plots.draw_model(model, data.test_images, figures)
    if model.latent_dims == (2,):
        plots.manifold(model, figures / "manifold.png")
    say(
        f"epoch {history['epoch'][-1]}: bound {history['bound'][-1]:.2f} nats in"
        f" training, {history['test_bound'][-1]:.2f} on test images\n"
        f"run: {args.out}   pictures: {figures}"
    )
    path = ["--data-path", str(args.data_path)] if args.data_path else []
    say("next: " + shlex.join(["minivae", "evaluate", str(args.out), *path]))
    return 0


def evaluate_command(args):
    """Evaluate a run's model on test images: a table, a JSON file and pictures."""
    run = load_run(args.run, args.device)
    model = run.averaged() if args.average else run.model
    data = load(run.config.get("data") or "mnist", args.data_path)
    images = data.test_images[: args.images]
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    result = evaluate(model, images, args.k, **seeds)
    units = " + ".join(map(str, result.active_units))
    of_units = " + ".join(map(str, model.latent_dims))
    ess = result.effective_sample_size.mean()
    say(f"{result.images} test images, k = {result.k}")
    error = f", +- {result.nll_se:.3f} over images" if result.images > 1 else ""
    say(f"NLL                    {result.nll:9.3f} nats{error}")
    for k, value in result.bounds.items():
        say(f"bound, k = {k:<6}      {value:9.3f} nats")
    say(f"ELBO: reconstruction   {result.reconstruction:9.3f} nats")
    say(f"      less KL          {result.kl:9.3f} nats")
    say(f"active units           {units:>9} of {of_units}")
    say(f"effective sample size  {ess:9.2f} of {result.k}, mean over images")
    name = f"evaluation_{result.images}_images_k_{result.k}"
    name += "".join(f"_{key}_{seed}" for key, seed in seeds.items() if seed)
    name += "_averaged" if args.average else ""
    path, figures = args.run / f"{name}.json", args.run / "figures"
    write_json(path, result.summary() | seeds)
    plots.draw_evaluations(
        {f"{run.config['bound']}, k = {run.config['k']}": result}, figures
    )
    say(f"saved: {path}   pictures: {figures}")
    return 0


def sample_command(args):
    """Draw from a run's model into a PNG: the means of p(x|z) at ancestral samples.

    With --between, what the model sees on the way from one test image to another.
    """
    run = load_run(args.run)
    model = run.averaged() if args.average else run.model
    if args.out and args.out.suffix != ".png":
        raise ValueError(f"--out must end in .png; got {str(args.out)!r}")
    if args.between:
        data = load(run.config.get("data") or "mnist", args.data_path)
        for i in args.between:
            if not 0 <= i < len(data.test_images):
                raise ValueError(
                    f"--between takes test images 0 to {len(data.test_images) - 1};"
                    f" got {i}"
                )
        x = data.test_images[args.between]
        if model.likelihood == "bernoulli":
            x = binarize(x, np.random.default_rng(args.seed))
        out = args.out or args.run / "figures" / "interpolation.png"
        plots.interpolation(model, x, out)
        say(f"from test image {args.between[0]} to {args.between[1]}: {out}")
        return 0
    out = args.out or args.run / "figures" / "samples.png"
    plots.samples(model, out, np.random.default_rng(args.seed), args.n)
    say(f"{args.n} samples: {out}")
    return 0


def gradcheck_command(args):
    """Check every hand-written gradient in float64 against finite differences.

    The table gives the worst figure of each array, over bounds and kernels.
    """
    table, failed = gradcheck(args.kernels)
    say(table)
    return 1 if failed else 0


def reproduce_command(args):
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


def demo_command(args):
    """Train a VAE and an IWAE on MNIST, and compare them in a table and pictures."""
    with writing_in(args.out):
        table = demo(args.out)
    say(f"\n{table}\nPictures: {args.out}/*.png and {args.out}/*/figures/*.png")
    return 0


def parser():
    """The argument parser: one subcommand a verb, each with an example."""
    top = argparse.ArgumentParser(
        prog="minivae",
        description="Variational and importance weighted autoencoders, with"
        " hand-written, checked gradients.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    def add(name, command, summary, example):
        sub = commands.add_parser(
            name,
            help=summary,
            description=inspect.cleandoc(command.__doc__ or summary),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)

        def option(*names, help, **settings):
            if isinstance(settings.get("default"), (str, int, float, Path)):
                help += " (default: %(default)s)"
            sub.add_argument(*names, help=help, **settings)

        option("--threads", type=positive, help="How many threads to use, if not all.")
        return option

    option = add(
        "train",
        train_command,
        "Train a model.",
        "minivae train --bound iwae --k 50 --preset short --out runs/iwae50\n"
        "  (the same command again resumes where Ctrl-C or a kill stopped it)",
    )
    option("--out", type=path_of, required=True, help="The run's folder.")
    option(
        "--data", choices=["mnist", "omniglot"], default="mnist", help="The image set."
    )
    option("--data-path", type=path_of, help=DATA_PATH_HELP)
    option("--bound", choices=bound_names(), default="iwae", help="What is maximised.")
    option("--k", type=positive, default=50, help="How many samples an image has.")
    for name, (kind, help) in registered_options().items():
        option(f"--{name}", type=kind, help=help.replace("%", "%%"))
    option(
        "--estimator",
        choices=[*ESTIMATORS],
        default="reparam",
        help="How the gradient is estimated.",
    )
    option(
        "--help-estimators",
        action=HelpEstimators,
        help="Show what each estimator is for, and exit.",
    )
    option(
        "--backward",
        choices=BACKWARDS,
        default="all",
        help="Which samples go through the backward pass: all, a single one, or the"
        " sparse choice of those that count.",
    )
    option(
        "--tau",
        type=float,
        default=0.1,
        help="The threshold of --backward sparse: a smaller one keeps more samples.",
    )
    option(
        "--preset",
        choices=[*PRESETS],
        help="Stages of the learning rate, batch and epsilon in one word: burda has the"
        " paper's 3,280 epochs, short has 121.",
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
        default="constant",
        help="How the learning rate changes: not at all, or along a cosine to zero.",
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
        type=int,
        choices=[*ARCHITECTURES],
        default=1,
        help="How many stochastic layers the paper's architecture has.",
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
        default="bernoulli",
        help="The distribution of the pixels given z.",
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
        type=int,
        default=0,
        help="The seed of the weights, the order, the pixels and the noise.",
    )
    option("--dtype", choices=DTYPES, default="float32", help="The type of all arrays.")
    option("--device", choices=[*DEVICES], default="cpu", help="Where to compute.")
    option(
        "--kernels",
        choices=NAMES,
        help="The version of the kernels on a CPU. Left out, it is numba.",
    )

    option = add(
        "evaluate",
        evaluate_command,
        "Measure the test NLL, bounds and active units.",
        "minivae evaluate runs/iwae50 --images 1000",
    )
    option("run", type=path_of, help="A run's folder.")
    option("--data-path", type=path_of, help=DATA_PATH_HELP)
    option("--k", type=positive, default=5000, help="How many weights an image has.")
    option(
        "--average",
        action="store_true",
        help="Take the running average of the parameters, if the run kept one.",
    )
    option("--images", type=positive, help="Take only so many test images.")
    option("--device", choices=[*DEVICES], default="cpu", help="Where to compute.")
    option(
        "--binarize-seed",
        type=int,
        default=0,
        help="The seed of the test images' pixels.",
    )
    option("--seed", type=int, default=0, help="The seed of the weights.")

    option = add(
        "sample",
        sample_command,
        "Draw from a trained model.",
        "minivae sample runs/iwae50 --n 64 --out samples.png",
    )
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

    option = add(
        "gradcheck",
        gradcheck_command,
        "Check every gradient.",
        "minivae gradcheck --kernels numpy",
    )
    option(
        "--kernels",
        nargs="+",
        choices=[*DEVICE_OF],
        default=NAMES,
        help="The versions to check. Left out, they are those of a CPU.",
    )

    option = add(
        "reproduce",
        reproduce_command,
        "Measure the estimators.",
        "minivae reproduce snr --out runs/snr",
    )
    option("experiment", choices=[*EXPERIMENTS], help="What to measure.")
    option("--out", type=path_of, help="The folder. Left out, it is runs/EXPERIMENT.")

    option = add(
        "demo",
        demo_command,
        "Train a VAE and an IWAE on MNIST in minutes, and compare them.",
        "minivae demo --out runs/demo",
    )
    option("--out", type=path_of, default=Path("runs/demo"), help="The folder.")
    return top


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


def positive(text):
    """An argument that is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on; got {text!r}")
    return int(text)


def path_of(text):
    """An argument that is a path. An empty one, of a variable that is not set, would be
    the folder where one stands.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path; got ''")
    return Path(text)


def sizes(text):
    """An argument such as 200,200."""
    return tuple(positive(part) for part in text.split(","))


def layers_of_sizes(text):
    """An argument such as 200,200/100,100."""
    return tuple(sizes(part) for part in text.split("/"))


def limit_threads(threads):
    """Use so many threads (`minivae.engine.threads`); None leaves it to the BLAS."""
    if threads is not None:
        if threads > os.cpu_count():
            raise ValueError(
                f"--threads must be at most {os.cpu_count()} here; got {threads}"
            )
        ask_for(threads)
