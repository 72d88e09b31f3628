"""The command line: minivae train | evaluate | sample | gradcheck | demo.

Exit codes: 0 done; 1 the run or the check failed; 2 wrong use or bad input; 130 stopped by Ctrl-C.
"""

import argparse
import sys
import time
from pathlib import Path

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from . import plots
from .bounds import BOUNDS
from .check import TOLERANCE, check_gradients, check_pieces, small_model
from .checkpoint import write_json
from .data import binarize, load
from .estimators import ESTIMATORS
from .evaluate import evaluate
from .kernels import NAMES
from .model import VAE
from .train import PRESETS, NonFiniteError, load_run, train


def main(argv=None):
    """Run one command; return its exit code."""
    args = parser().parse_args(argv)
    try:
        limit_threads(args.threads)
        return args.command(args)
    except KeyboardInterrupt as stop:
        print(f"\nminivae: {str(stop) or 'stopped'}\n{args.go_on}", file=sys.stderr)
        return 130
    except (NonFiniteError, MemoryError) as error:
        print(f"minivae: the run failed: {error}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"minivae: error: {error}", file=sys.stderr)
        return 2


def train_command(args):
    """Train one model into a folder and draw its pictures."""
    data = load(args.data, args.data_path)
    settings = dict(PRESETS[args.preset]) if args.preset else {}
    own = {"batch": args.batch, "epsilon": args.epsilon, "epochs": args.epochs, "learning_rate": args.learning_rate}
    own = {key: value for key, value in own.items() if value is not None}
    if args.preset and own.keys() & {"epochs", "learning_rate"}:
        raise ValueError(f"--preset {args.preset} fixes the epochs and learning rates: leave --epochs and --learning-rate out")
    model = VAE(
        x_dim=data.train_images.shape[1],
        latent_dims=args.latent_dims,
        hidden_dims=args.hidden_dims,
        dtype=args.dtype,
        rng=np.random.default_rng(args.seed),
        x_mean=data.train_images.mean(axis=0),
        device=args.device,
        kernels=args.kernels,
    )
    args.go_on = f"To go on, run the same command again: its run is in {args.out}"
    run = train(
        model,
        data.train_images,
        args.bound,
        args.k,
        args.estimator,
        **(settings | own),
        binarization=args.binarization,
        seed=args.seed,
        folder=args.out,
        test_images=data.test_images,
    )
    figures = args.out / "figures"
    plots.learning_curves({f"{args.bound}, k = {args.k}": run.history}, figures / "learning_curves.png")
    plots.samples(model, figures / "samples.png", np.random.default_rng(args.seed))
    x = binarize(data.test_images[:50], np.random.default_rng(0))
    plots.reconstructions(model, x, figures / "reconstructions.png")
    if model.latent_dims == (2,):
        plots.manifold(model, figures / "manifold.png")
    last = {key: values[-1] for key, values in run.history.items()}
    print(f"epoch {last['epoch']}: bound {last['bound']:.2f} nats in training, {last['test_bound']:.2f} on test images")
    print(f"run: {args.out}   pictures: {figures}   next: minivae evaluate {args.out}")
    return 0


def evaluate_command(args):
    """Evaluate one run; print a table, write evaluation.json and pictures beside it."""
    run, data = load_run(args.run), load(args.data, args.data_path)
    images = data.test_images[: args.images]
    result = evaluate(run.model, images, args.k, binarize_seed=args.binarize_seed, seed=args.seed)
    write_json(args.run / "evaluation.json", result.summary())
    label, figures = f"{run.config['bound']}, k = {run.config['k']}", args.run / "figures"
    plots.active_units({label: result}, figures / "active_units.png")
    plots.bound_against_k({label: result}, figures / "bound_against_k.png")
    plots.normalised_weights({label: result}, figures / "normalised_weights.png")
    print(f"{result.images} test images, k = {result.k}")
    print(f"NLL                    {result.nll:9.3f} +- {result.nll_se:.3f} nats (standard error over images)")
    for k, value in result.bounds.items():
        print(f"bound, k = {k:<6}      {value:9.3f} nats")
    print(f"ELBO's reconstruction  {result.reconstruction:9.3f} nats")
    print(f"ELBO's KL              {result.kl:9.3f} nats")
    print(f"active units           {' + '.join(map(str, result.active_units)):>9} of {run.model.latent_dims}")
    print(f"effective sample size  {result.effective_sample_size.mean():9.2f} of {result.k}")
    print(f"saved: {args.run / 'evaluation.json'}   pictures: {figures}")
    return 0


def sample_command(args):
    """Draw samples from a run's model into a PNG."""
    run = load_run(args.run)
    out = args.out or args.run / "figures" / "samples.png"
    plots.samples(run.model, out, np.random.default_rng(args.seed), args.n)
    print(f"{args.n} samples: {out}")
    return 0


def gradcheck_command(args):
    """Check every hand-written gradient; print the worst figure per array."""
    data = load("mnist")
    x = binarize(data.test_images[:4].astype(np.float64), np.random.default_rng(0))
    checks = []  # (where, Check)
    for kernels in args.kernels:
        checks += [(kernels, check) for check in check_pieces(kernels)]
        real = VAE(784, dtype=np.float64, rng=np.random.default_rng(0), kernels=kernels)
        deep, deep_x, deep_eps = small_model(kernels, (4, 3), ((6, 5), (4, 5)))
        for bound in (*BOUNDS, "elbo_kl"):
            eps = real.draw_eps(len(x), 3, np.random.default_rng(0))
            for check in check_gradients(real, x, eps, bound):
                checks.append((f"{bound}, {kernels}", check._replace(name=f"784-200-200-50: {check.name}")))
            if bound != "elbo_kl":
                for check in check_gradients(deep, deep_x, deep_eps, bound):
                    checks.append((f"{bound}, {kernels}", check._replace(name=f"two layers: {check.name}")))
    worst = {}
    for where, check in checks:
        if check.name not in worst or not check.error <= worst[check.name][1].error:
            worst[check.name] = where, check
    print(f"{'array':<40} {'error':>8}  {'analytic':>22} {'numeric':>22}  worst in")
    for name, (where, check) in worst.items():
        flag = "" if check.error <= TOLERANCE else "  FAILED"
        print(f"{name:<40} {check.error:8.1e}  {check.analytic:22.14e} {check.numeric:22.14e}  {where}{flag}")
    failed = sum(not check.error <= TOLERANCE for _, check in checks)
    top = max(check.error for _, check in checks)
    print(f"\n{len(checks)} checks of 3 directions each, float64, kernels {' and '.join(args.kernels)};")
    print(f"error = |analytic - numeric| / (|gradient| |direction|); worst {top:.1e}, allowed {TOLERANCE:.0e}; {failed} failed")
    return 1 if failed else 0


DEMO_RUNS = {"VAE (k = 1)": ("elbo", 1), "IWAE (k = 5)": ("iwae", 5)}
DEMO_EPOCHS, DEMO_IMAGES = 6, 300


def demo_command(args):
    """Train a VAE and an IWAE on MNIST and compare them."""
    data = load("mnist")
    x = binarize(data.test_images[:20], np.random.default_rng(0))
    args.go_on = "To go on, run the same command again."
    histories, evaluations, rows = {}, {}, []
    for label, (bound, k) in DEMO_RUNS.items():
        folder = args.out / f"{bound}-{k}"
        print(f"{label}: 784-200-200-50, batch 100, {DEMO_EPOCHS} epochs of 60,000 images")
        model = VAE(784, rng=np.random.default_rng(0), x_mean=data.train_images.mean(axis=0))
        run = train(
            model, data.train_images, bound, k, epochs=DEMO_EPOCHS, folder=folder, test_images=data.test_images
        )
        start = time.perf_counter()
        evaluation = evaluate(model, data.test_images[:DEMO_IMAGES])
        seconds = sum(run.history["seconds"])
        plots.samples(model, folder / "figures" / "samples.png", np.random.default_rng(0))
        plots.reconstructions(model, x, folder / "figures" / "reconstructions.png")
        histories[label], evaluations[label] = run.history, evaluation
        rows.append((label, evaluation.bounds[k], evaluation, seconds, time.perf_counter() - start))
    plots.learning_curves(histories, args.out / "learning_curves.png")
    plots.active_units(evaluations, args.out / "active_units.png")
    plots.bound_against_k(evaluations, args.out / "bound_against_k.png")
    plots.normalised_weights(evaluations, args.out / "normalised_weights.png")
    lines = [
        f"MNIST, {DEMO_EPOCHS} epochs at batch 100, Adam 1e-3; test figures on the first {DEMO_IMAGES} test images",
        "",
        "| model | bound (nats) | NLL, k = 5000 (nats) | active units | training (s) | evaluation (s) |",
        "|---|---|---|---|---|---|",
    ]
    for label, value, evaluation, seconds, evaluation_seconds in rows:
        lines.append(
            f"| {label} | {value:.2f} | {evaluation.nll:.2f} | {evaluation.active_units[0]} of 50"
            f" | {seconds:.0f} | {evaluation_seconds:.0f} |"
        )
    difference = evaluations["VAE (k = 1)"].nll - evaluations["IWAE (k = 5)"].nll
    lines += ["", f"The IWAE's NLL is {abs(difference):.2f} nats {'lower' if difference > 0 else 'HIGHER'}."]
    table = "\n".join(lines)
    (args.out / "table.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\nPictures: {args.out}/*.png and {args.out}/*/figures/*.png")
    return 0


def parser():
    """The argument parser: one subcommand a verb, each with an example."""
    top = argparse.ArgumentParser(
        prog="minivae",
        description="Variational and importance weighted autoencoders with hand-written, checked gradients.",
    )
    commands = top.add_subparsers(required=True, metavar="command")

    def add(name, command, summary, example):
        sub = commands.add_parser(
            name,
            help=summary,
            description=command.__doc__,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command, go_on="")
        sub.add_argument("--threads", type=positive, help="threads for products and kernels (default: all cores)")
        return sub

    def add_data(sub):
        sub.add_argument("--data", choices=("mnist", "omniglot"), default="mnist", help="image set (default: mnist)")
        sub.add_argument("--data-path", type=Path, help="a chardata.mat, instead of fetching OMNIGLOT")

    sub = add(
        "train",
        train_command,
        "train a model",
        "minivae train --bound iwae --k 50 --preset short --out runs/iwae50\n  (the same command again goes on after Ctrl-C)",
    )
    add_data(sub)
    sub.add_argument("--bound", choices=(*BOUNDS, "elbo_kl"), default="iwae", help="objective (default: iwae)")
    sub.add_argument("--k", type=positive, default=50, help="samples an image (default: 50)")
    sub.add_argument("--estimator", choices=tuple(ESTIMATORS), default="reparam", help="of the gradient (default: reparam)")
    sub.add_argument("--preset", choices=tuple(PRESETS), help="burda: the paper's 3,280 epochs; short: its first 121, batch 20")
    sub.add_argument("--epochs", type=positive, help="epochs at one learning rate (default: 20)")
    sub.add_argument("--learning-rate", type=float, help="Adam's (default: 1e-3)")
    sub.add_argument("--epsilon", type=float, help="Adam's (default: 1e-8; presets: 5e-6)")
    sub.add_argument("--batch", type=positive, help="images a step (default: 100; presets: 20)")
    sub.add_argument("--latent-dims", type=sizes, default=(50,), metavar="L1[,L2...]", help="latent units (default: 50)")
    sub.add_argument(
        "--hidden-dims",
        type=lambda text: tuple(map(sizes, text.split("/"))),
        default=((200, 200),),
        metavar="H,H[/H,H...]",
        help="hidden units of q, a slash between stochastic layers (default: 200,200)",
    )
    sub.add_argument("--binarization", choices=("dynamic", "fixed"), default="dynamic", help="default: dynamic")
    sub.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    sub.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    sub.add_argument("--kernels", choices=NAMES, default="numba", help="default: numba")
    sub.add_argument("--device", choices=("cpu",), default="cpu", help="default: cpu")
    sub.add_argument("--out", type=Path, required=True, help="the run's folder")

    sub = add("evaluate", evaluate_command, "test NLL, bounds, active units", "minivae evaluate runs/iwae50 --images 1000")
    sub.add_argument("run", type=Path, help="a run's folder")
    add_data(sub)
    sub.add_argument("--k", type=positive, default=5000, help="weights an image (default: 5000)")
    sub.add_argument("--images", type=positive, help="only the first so many test images (default: all)")
    sub.add_argument("--binarize-seed", type=int, default=0, help="of the test images' one binarisation (default: 0)")
    sub.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")

    sub = add("sample", sample_command, "draw from a trained model", "minivae sample runs/iwae50 --n 64 --out samples.png")
    sub.add_argument("run", type=Path, help="a run's folder")
    sub.add_argument("--n", type=positive, default=100, help="how many (default: 100)")
    sub.add_argument("--seed", type=int, default=0, help="default: 0")
    sub.add_argument("--out", type=Path, help="the PNG (default: figures/samples.png in the run)")

    sub = add("gradcheck", gradcheck_command, "check every gradient", "minivae gradcheck --kernels numpy")
    sub.add_argument("--kernels", nargs="+", choices=NAMES, default=list(NAMES), help="default: all")

    sub = add("demo", demo_command, "VAE against IWAE on MNIST in minutes", "minivae demo --out runs/demo")
    sub.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    return top


def positive(text):
    """An argument that is a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {value}")
    return value


def sizes(text):
    """An argument such as 200,200."""
    return tuple(positive(part) for part in text.split(","))


def limit_threads(threads):
    """Give products (every loaded BLAS) and kernels so many threads; None leaves them as they are."""
    if threads is not None:
        if threads > numba.config.NUMBA_NUM_THREADS:
            raise ValueError(f"--threads must be at most {numba.config.NUMBA_NUM_THREADS} here; got {threads}")
        numba.set_num_threads(threads)
        threadpool_limits(threads)


if __name__ == "__main__":
    sys.exit(main())
