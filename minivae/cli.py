"""The command line: minivae train | evaluate | sample | gradcheck | reproduce | demo.

Exit codes: 0 done; 1 the run or the check failed; 2 wrong use or bad input; 130 stopped
by Ctrl-C.
"""

import argparse
import errno
import inspect
import os
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from . import plots
from .bounds import BOUNDS
from .check import (
    BOUND_OPTIONS,
    TOLERANCE,
    check_gradients,
    check_pieces,
    small_model,
)
from .checkpoint import write_json
from .data import binarize, load
from .estimators import CLAIMS, ESTIMATORS, IWAE_ONLY
from .evaluate import evaluate
from .gradient import BACKWARDS, BOUND_NAMES
from .kernels import DEVICE_OF, DEVICES, NAMES
from .model import DTYPES, LIKELIHOODS, VAE
from .reproduce import EXPERIMENTS
from .train import BINARIZATIONS, PRESETS, NonFiniteError, load_run, train

GO_ON = "To go on from there, run the same command again."
# the paper's architectures, by the number of stochastic layers
ARCHITECTURES = {
    1: {"latent_dims": (50,), "hidden_dims": ((200, 200),)},
    2: {"latent_dims": (100, 50), "hidden_dims": ((200, 200), (100, 100))},
}


def main(argv=None):
    """Run one command; return its exit code."""
    try:
        try:
            args = parser().parse_args(argv)
            limit_threads(args.threads)
            return args.command(args)
        finally:
            sys.stdout.flush()  # here, where a closed pipe can be caught, not at exit
    except KeyboardInterrupt as stop:
        reason = f"{stop}. {GO_ON}" if str(stop) else "stopped"
        print(f"\nminivae: {reason}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (NonFiniteError, MemoryError) as error:
        print(f"minivae: the run failed: {error}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"minivae: error: {error}", file=sys.stderr)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        return 1 if full else 2


def train_command(args):
    """Train one model into a folder, and draw its pictures."""
    given = ("epochs", "learning_rate", "batch", "epsilon")
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
    options = {"m": args.m, "beta": args.beta, "alpha": args.alpha}
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
    draw_model(model, data, figures)
    if model.latent_dims == (2,):
        plots.manifold(model, figures / "manifold.png")
    print(
        f"epoch {history['epoch'][-1]}: bound {history['bound'][-1]:.2f} nats in"
        f" training, {history['test_bound'][-1]:.2f} on test images\n"
        f"run: {args.out}   pictures: {figures}"
    )
    path = ["--data-path", str(args.data_path)] if args.data_path else []
    print("next:", shlex.join(["minivae", "evaluate", str(args.out), *path]))
    return 0


def draw_model(model, data, figures):
    """The pictures that need no evaluation: samples and reconstructions."""
    plots.samples(model, figures / "samples.png", np.random.default_rng(0))
    x = binarize(data.test_images[:50], np.random.default_rng(0))
    plots.reconstructions(model, x, figures / "reconstructions.png")


def draw_evaluations(evaluations, figures):
    """The pictures of one or more evaluations (label -> Evaluation)."""
    plots.active_units(evaluations, figures / "active_units.png")
    plots.bound_against_k(evaluations, figures / "bound_against_k.png")
    plots.normalised_weights(evaluations, figures / "normalised_weights.png")


def evaluate_command(args):
    """Evaluate a run's model on test images: a table, a JSON file and pictures."""
    run = load_run(args.run, args.device)
    data = load(run.config.get("data") or "mnist", args.data_path)
    images = data.test_images[: args.images]
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    result = evaluate(run.model, images, args.k, **seeds)
    units = " + ".join(map(str, result.active_units))
    of_units = " + ".join(map(str, run.model.latent_dims))
    ess = result.effective_sample_size.mean()
    print(f"{result.images} test images, k = {result.k}")
    error = f", +- {result.nll_se:.3f} over images" if result.images > 1 else ""
    print(f"NLL                    {result.nll:9.3f} nats{error}")
    for k, value in result.bounds.items():
        print(f"bound, k = {k:<6}      {value:9.3f} nats")
    print(f"ELBO: reconstruction   {result.reconstruction:9.3f} nats")
    print(f"      less KL          {result.kl:9.3f} nats")
    print(f"active units           {units:>9} of {of_units}")
    print(f"effective sample size  {ess:9.2f} of {result.k}, mean over images")
    name = f"evaluation_{result.images}_images_k_{result.k}"
    name += "".join(f"_{key}_{seed}" for key, seed in seeds.items() if seed)
    path, figures = args.run / f"{name}.json", args.run / "figures"
    write_json(path, result.summary() | seeds)
    draw_evaluations({f"{run.config['bound']}, k = {run.config['k']}": result}, figures)
    print(f"saved: {path}   pictures: {figures}")
    return 0


def sample_command(args):
    """Draw from a run's model into a PNG: the means of p(x|z) at ancestral samples.

    With --between, what the model sees on the way from one test image to another.
    """
    run = load_run(args.run)
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
        if run.model.likelihood == "bernoulli":
            x = binarize(x, np.random.default_rng(args.seed))
        out = args.out or args.run / "figures" / "interpolation.png"
        plots.interpolation(run.model, x, out)
        print(f"from test image {args.between[0]} to {args.between[1]}: {out}")
        return 0
    out = args.out or args.run / "figures" / "samples.png"
    plots.samples(run.model, out, np.random.default_rng(args.seed), args.n)
    print(f"{args.n} samples: {out}")
    return 0


def gradcheck_command(args):
    """Check every hand-written gradient in float64 against finite differences.

    The table gives the worst figure of each array, over bounds and kernels.
    """
    x = binarize(load("mnist").test_images[:4], np.random.default_rng(0))
    checks = []  # (where, Check)
    for kernels in args.kernels:
        checks += [(kernels, check) for check in check_pieces(kernels)]
        rng = np.random.default_rng(0)
        settings = {"rng": rng, "device": DEVICE_OF[kernels], "kernels": kernels}
        real = VAE(784, dtype=np.float64, **settings)
        models = {
            "784-200-200-50": (real, x, real.draw_eps(len(x), 4, rng)),
            "two layers": small_model(kernels, (4, 3), ((6, 5), (4, 5)), k=4),
        }
        for name, (model, *inputs) in models.items():
            for bound in BOUND_NAMES:
                if bound == "elbo_kl" and len(model.latent_dims) > 1:
                    continue
                options = BOUND_OPTIONS.get(bound, {})
                for check in check_gradients(model, *inputs, bound, **options):
                    check = check._replace(name=f"{name}: {check.name}")
                    checks.append((f"{bound}, {kernels}", check))
    worst = {}
    for where, check in checks:
        if check.name not in worst or not check.error <= worst[check.name][1].error:
            worst[check.name] = where, check
    print(f"{'array':<30} {'error':>8} {'analytic':>22} {'numeric':>22}  worst in")
    for where, check in worst.values():
        flag = "" if check.error <= TOLERANCE else "  FAILED"
        numbers = f"{check.error:8.1e} {check.analytic:22.14e} {check.numeric:22.14e}"
        print(f"{check.name:<30} {numbers}  {where}{flag}")
    failed = sum(not check.error <= TOLERANCE for _, check in checks)
    top = max(check.error for _, check in checks)
    print(
        f"\n{len(checks)} checks of 3 directions each, kernels"
        f" {' and '.join(args.kernels)}; error = |analytic - numeric| / (|gradient|"
        f" |direction|)\nworst {top:.1e}, allowed {TOLERANCE:.0e}; {failed} failed"
    )
    return 1 if failed else 0


def reproduce_command(args):
    """Measure the family, and write the table, the raw numbers and the picture.

    snr: signal-to-noise ratio of the gradients against K, on the linear-Gaussian toy of
    Rainforth et al. (2018) and on an MNIST model. estimators: the same model trained by
    each estimator. sparse: the sparse backward against the dense one, by NLL and time.
    Each goes on where it was stopped.
    """
    folder = args.out or Path("runs") / args.experiment
    print(f"{EXPERIMENTS[args.experiment](folder)}\n\nwritten: {folder}")
    return 0


DEMO_RUNS = {"VAE (k = 1)": ("elbo", 1), "IWAE (k = 5)": ("iwae", 5)}
DEMO_EPOCHS, DEMO_IMAGES = 6, 300


def demo_command(args):
    """Train a VAE and an IWAE on MNIST, and compare them in a table and pictures."""
    data = load("mnist")
    histories, evaluations, lines = {}, {}, []
    for label, (bound, k) in DEMO_RUNS.items():
        print(f"{label}: {DEMO_EPOCHS} epochs, then {DEMO_IMAGES} test images")
        folder, rng = args.out / f"{bound}-{k}", np.random.default_rng(0)
        model = VAE(784, rng=rng, x_mean=data.train_images.mean(axis=0))
        history = train(
            model,
            data.train_images,
            bound,
            k,
            epochs=DEMO_EPOCHS,
            folder=folder,
            test_images=data.test_images,
        ).history
        draw_model(model, data, folder / "figures")
        start = time.perf_counter()
        result = evaluate(model, data.test_images[:DEMO_IMAGES])
        histories[label], evaluations[label] = history, result
        lines.append(
            f"| {label} | {result.bounds[k]:.2f} | {result.nll:.2f} |"
            f" {result.active_units[0]} of 50 | {sum(history['seconds']):.0f} |"
            f" {time.perf_counter() - start:.0f} |"
        )
    plots.learning_curves(histories, args.out / "learning_curves.png")
    draw_evaluations(evaluations, args.out)
    vae, iwae = evaluations.values()
    table = "\n".join(
        [
            f"MNIST, 784-200-200-50, {DEMO_EPOCHS} epochs at batch 100, Adam 1e-3;"
            f" on the first {DEMO_IMAGES} test images, NLL with k = 5000",
            "",
            "| model | its bound, nats | NLL, nats | active units |"
            " training, s | evaluation, s |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
            f"The IWAE's NLL is {abs(vae.nll - iwae.nll):.2f} nats"
            f" {'lower' if iwae.nll < vae.nll else 'HIGHER'} than the VAE's.",
        ]
    )
    (args.out / "table.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\nPictures: {args.out}/*.png and {args.out}/*/figures/*.png")
    return 0


def parser():
    """The argument parser: one subcommand a verb, each with an example."""
    top = argparse.ArgumentParser(
        prog="minivae",
        description="Variational and importance weighted autoencoders, with"
        " hand-written, checked gradients.",
    )
    commands = top.add_subparsers(required=True, metavar="command")

    def add(name, command, summary, example):
        sub = commands.add_parser(
            name,
            help=summary,
            description=inspect.cleandoc(command.__doc__),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)

        def option(*names, help, **settings):
            if isinstance(settings.get("default"), (str, int, float, Path)):
                help += " (default: %(default)s)"
            sub.add_argument(*names, help=help, **settings)

        option("--threads", type=positive, help="to use, if not all")
        return option

    option = add(
        "train",
        train_command,
        "train a model",
        "minivae train --bound iwae --k 50 --preset short --out runs/iwae50\n"
        "  (the same command again goes on where Ctrl-C or a kill stopped it)",
    )
    option("--out", type=Path, required=True, help="the run's folder")
    option("--data", choices=["mnist", "omniglot"], default="mnist", help="image set")
    option("--data-path", type=Path, help="OMNIGLOT's chardata.mat; else fetched")
    option("--bound", choices=BOUND_NAMES, default="iwae", help="the objective")
    option("--k", type=positive, default=50, help="samples per image")
    option("--m", type=positive, help="of bound miwae, estimator piwae: groups")
    option("--beta", type=float, help="of bound ciwae: the ELBO's share")
    option("--alpha", type=float, help="of bound vr: the order")
    option("--estimator", choices=[*ESTIMATORS], default="reparam", help="of gradients")
    option("--help-estimators", action=HelpEstimators, help="which are for what")
    option("--backward", choices=BACKWARDS, default="all", help="which samples go back")
    option("--tau", type=float, default=0.1, help="of backward sparse: the threshold")
    option(
        "--preset",
        choices=[*PRESETS],
        help="stages, batch, epsilon: burda has the paper's 3,280 epochs, short 121",
    )
    option("--epochs", type=positive, help="at one learning rate, without preset: 20")
    option("--learning-rate", type=float, help="Adam's, without preset: 1e-3")
    option("--epsilon", type=float, help="Adam's, without preset: 1e-8")
    option("--batch", type=positive, help="images per step, without preset: 100")
    layers = [*ARCHITECTURES]
    option("--layers", type=int, choices=layers, default=1, help="stochastic layers")
    option("--latent-dims", type=sizes, help="else, say 100,50: a comma between layers")
    option(
        "--hidden-dims",
        type=layers_of_sizes,
        help="of q, say 200,200/100,100: a slash between layers; p mirrors them",
    )
    option("--likelihood", choices=LIKELIHOODS, default="bernoulli", help="of pixels")
    option("--x-sigma", type=float, help="of likelihood gaussian: fixed, not learned")
    option("--binarization", choices=BINARIZATIONS, help="each use, once, or not")
    option("--seed", type=int, default=0, help="of everything random")
    option("--dtype", choices=DTYPES, default="float32", help="of all arrays")
    option("--device", choices=[*DEVICES], default="cpu", help="where to compute")
    option("--kernels", choices=NAMES, help="their version on a CPU, if not numba")

    option = add(
        "evaluate",
        evaluate_command,
        "test NLL, bounds, active units",
        "minivae evaluate runs/iwae50 --images 1000",
    )
    option("run", type=Path, help="a run's folder")
    option("--data-path", type=Path, help="OMNIGLOT's chardata.mat; else fetched")
    option("--k", type=positive, default=5000, help="weights per image")
    option("--images", type=positive, help="only so many test images")
    option("--device", choices=[*DEVICES], default="cpu", help="where to compute")
    option("--binarize-seed", type=int, default=0, help="of the test images' pixels")
    option("--seed", type=int, default=0, help="of the weights")

    option = add(
        "sample",
        sample_command,
        "draw from a trained model",
        "minivae sample runs/iwae50 --n 64 --out samples.png",
    )
    option("run", type=Path, help="a run's folder")
    option("--n", type=positive, default=100, help="how many")
    option("--seed", type=int, default=0, help="of the draws")
    option("--out", type=Path, help="the PNG, if not in the run's figures")
    option("--data-path", type=Path, help="OMNIGLOT's chardata.mat; else fetched")
    option(
        "--between", type=int, nargs=2, metavar="I", help="two test images, by number"
    )

    option = add(
        "gradcheck",
        gradcheck_command,
        "check every gradient",
        "minivae gradcheck --kernels numpy",
    )
    all_ = [*DEVICE_OF]
    option("--kernels", nargs="+", choices=all_, default=NAMES, help="else a CPU's")

    option = add(
        "reproduce",
        reproduce_command,
        "measure the estimators",
        "minivae reproduce snr --out runs/snr",
    )
    option("experiment", choices=[*EXPERIMENTS], help="what to measure")
    option("--out", type=Path, help="a folder, if not runs/EXPERIMENT")

    option = add(
        "demo",
        demo_command,
        "VAE against IWAE on MNIST in minutes",
        "minivae demo --out runs/demo",
    )
    option("--out", type=Path, default=Path("runs/demo"), help="a folder")
    return top


class HelpEstimators(argparse.Action):
    """Print what each estimator claims, and which bounds it is for."""

    def __init__(self, *args, **settings):
        super().__init__(*args, nargs=0, **settings)

    def __call__(self, parser, *args):
        print(f"{'estimator':<10} {'bounds':<8} what it estimates")
        for name, claim in CLAIMS.items():
            bounds = "iwae" if name in IWAE_ONLY else "all"
            print(f"{name:<10} {bounds:<8} {claim}")
            if name in IWAE_ONLY:
                print(f"{'':<19} (others: {IWAE_ONLY[name]})")
        print(f"all: {', '.join(BOUNDS)}. elbo_kl is no function of the")
        print("log-weights: it has reparam only. vimco and jackknife need --k >= 2.")
        parser.exit()


def positive(text):
    """An argument that is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on; got {text!r}")
    return int(text)


def sizes(text):
    """An argument such as 200,200."""
    return tuple(positive(part) for part in text.split(","))


def layers_of_sizes(text):
    """An argument such as 200,200/100,100."""
    return tuple(sizes(part) for part in text.split("/"))


def limit_threads(threads):
    """Use so many threads (`minivae.threads`); None: as many as the BLAS may use."""
    if threads is not None:
        if threads > os.cpu_count():
            raise ValueError(
                f"--threads must be at most {os.cpu_count()} here; got {threads}"
            )
        threadpool_limits(threads)
