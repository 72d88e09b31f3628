"""minivae evaluate."""

from .. import plots
from ..annealing import anneal, check_density
from ..engine.files import read_json, write_json
from ..engine.report import say
from ..evaluation import evaluate, images_seen
from ..kernels import DEVICES
from ..model import NLL_NAMES
from ..results import kept_evaluation
from ..runs import load_images, load_run
from .arguments import RUN_DATA_HELP, data_of, path_of, positive, seed_of

SUMMARY = "Measure the test NLL, bounds and active units."
EXAMPLE = "minivae evaluate runs/iwae50 --images 1000"
SPLITS = ("test", "validation", "train")


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("run", type=path_of, help="A run's folder.")
    add_measuring_options(option)
    option(
        "--ais",
        type=positive,
        metavar="N",
        help="Estimate log p(x) by annealed importance sampling, too, through so many"
        " distributions: 1000 take a second or two an image.",
    )


def add_measuring_options(option):
    """What is measured, and how, for `measure`."""
    option("--data", type=data_of, help=RUN_DATA_HELP)
    option(
        "--split",
        choices=SPLITS,
        default="test",
        help="Which images to take: validation are those that train --validation held"
        " back.",
    )
    option("--k", type=positive, default=5000, help="How many weights an image has.")
    option(
        "--average",
        action="store_true",
        help="Take the running average of the parameters, if the run kept one.",
    )
    option("--images", type=positive, help="Take only so many images.")
    option("--device", choices=[*DEVICES], default="cpu", help="Where to compute.")
    option(
        "--binarize-seed",
        type=seed_of,
        default=0,
        help="The seed of the images' pixels.",
    )
    option("--seed", type=seed_of, default=0, help="The seed of the weights.")


def run(args):
    """Evaluate a run's model on test images: a table, a JSON file and pictures.

    Stopped by Ctrl-C or a kill, the same command goes on where it was.
    """
    run = load_run(args.run, args.device)
    if args.ais is not None:
        check_density(run.model)
    image_set = load_images(run, args.data)
    result, path = measure(args, run, image_set, again=args.ais is None)
    nll_name, remark = NLL_NAMES[run.model.likelihood]
    say(f"{result.images} {args.split} images, k = {result.k}")
    say(result.table(nll_name))
    if remark:
        say(f"{nll_name}: {remark}")
    if args.ais is not None:
        path = measure_by_annealing(args, run, image_set, path)
    figures = args.run / "figures"
    label = f"{run.config['bound']}, k = {run.config['k']}"
    plots.draw_evaluations({label: result}, figures)
    images, labels = images_of(args, image_set)
    plots.draw_latents(
        model_of(args, run), images, figures, labels, image_set.image_shape
    )
    plots.best_and_worst(
        images,
        result.log_p,
        figures / "best_and_worst.png",
        labels=labels,
        image_shape=image_set.image_shape,
    )
    say(f"saved: {path}, .npz   pictures: {figures}")
    return 0


def measure_by_annealing(args, run, image_set, path):
    """Print the annealed NLL, and write it with what is in ``path`` into a JSON file
    beside that, whose path is returned.
    """
    images, _ = images_of(args, image_set)
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    beside = path.with_name(f"{path.stem}_ais_{args.ais}.json")
    partial = beside.with_suffix(".partial.npz")
    annealed = anneal(model_of(args, run), images, args.ais, **seeds, partial=partial)
    error = f", +- {annealed.nll_se:.3f} over images" if len(images) > 1 else ""
    say(f"annealed NLL           {annealed.nll:9.3f} nats{error}")
    say(f"      upper - lower    {annealed.gap:9.3f} nats, +- {annealed.gap_se:.3f}")
    say(f"      (on {annealed.simulated} images drawn from the model)")
    write_json(beside, read_json(path) | {"ais": annealed.summary()})
    return beside


def measure(args, run, image_set, again=False):
    """The `Evaluation` of a run, and the JSON file that has been written, beside an
    .npz of the same name. That one is read instead, unless ``again`` is true, if it is
    of the same parameters and images.
    """
    model, (images, _) = model_of(args, run), images_of(args, image_set)
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    split = "" if args.split == "test" else f"{args.split}_"
    name = f"evaluation_{len(images)}_{split}images_k_{args.k}"
    name += "".join(f"_{key}_{seed}" for key, seed in seeds.items() if seed)
    name += "_averaged" if args.average else ""
    path = run.folder / f"{name}.json"
    if not again:
        x = images_seen(model, images, args.binarize_seed)
        kept = kept_evaluation(path.with_suffix(".npz"), x, model.params)
        if kept and path.is_file():
            return kept, path
    partial = path.with_suffix(".partial.npz")
    result = evaluate(model, images, args.k, **seeds, partial=partial)
    what = {"nll_is": NLL_NAMES[model.likelihood][0], "split": args.split}
    write_json(path, result.summary() | seeds | what)
    result.save(path.with_suffix(".npz"))
    return result, path


def model_of(args, run):
    """The run's model, or the one of its averaged parameters."""
    return run.averaged() if args.average else run.model


def images_of(args, image_set):
    """The images that are asked for, and their labels or None."""
    images = getattr(image_set, f"{args.split}_images")
    labels = getattr(image_set, f"{args.split}_labels")
    if images is None:
        raise ValueError("the run held back no images: see train --validation")
    return images[: args.images], labels if labels is None else labels[: args.images]
