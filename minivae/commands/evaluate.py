"""minivae evaluate."""

from .. import plots
from ..annealing import anneal
from ..engine.digest import digest_of_images
from ..engine.files import read_json, write_json
from ..engine.report import say
from ..evaluation import evaluate, images_seen
from ..kernels import DEVICES
from ..model import NLL_NAMES
from ..results import Evaluation
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
    run, result, path = measure(args, args.run, again=True)
    units = " + ".join(map(str, result.active_units))
    of_units = " + ".join(map(str, run.model.latent_dims))
    ess = result.effective_sample_size.mean()
    say(f"{result.images} {args.split} images, k = {result.k}")
    error = f", +- {result.nll_se:.3f} over images" if result.images > 1 else ""
    nll_name, remark = NLL_NAMES[run.model.likelihood]
    say(f"{nll_name:<22} {result.nll:9.3f} nats{error}")
    if remark:
        say(f"  ({remark})")
    for k, value in result.bounds.items():
        say(f"bound, k = {k:<6}      {value:9.3f} nats")
    say(f"ELBO: reconstruction   {result.reconstruction:9.3f} nats")
    say(f"      less KL          {result.kl:9.3f} nats")
    say(f"active units           {units:>9} of {of_units}")
    say(f"effective sample size  {ess:9.2f} of {result.k}, mean over images")
    if args.ais is not None:
        path = measure_by_annealing(args, run, path)
    figures = args.run / "figures"
    plots.draw_evaluations(
        {f"{run.config['bound']}, k = {run.config['k']}": result}, figures
    )
    say(f"saved: {path}   pictures: {figures}")
    return 0


def measure_by_annealing(args, run, path):
    """Print the annealed NLL, and write it with what is in ``path`` into a JSON file
    beside that, whose path is returned.
    """
    model = run.averaged() if args.average else run.model
    images = images_of(args, run)
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    annealed = anneal(model, images, args.ais, **seeds)
    error = f", +- {annealed.nll_se:.3f} over images" if len(images) > 1 else ""
    say(f"annealed NLL           {annealed.nll:9.3f} nats{error}")
    say(f"      upper - lower    {annealed.gap:9.3f} nats, +- {annealed.gap_se:.3f}")
    say(f"      (on {annealed.simulated} images drawn from the model)")
    beside = path.with_name(f"{path.stem}_ais_{args.ais}.json")
    write_json(beside, read_json(path) | {"ais": annealed.summary()})
    return beside


def measure(args, folder, again=False):
    """The run in ``folder``, its `Evaluation`, and the JSON file that has been written,
    beside an .npz of the same name. That one is read instead, unless ``again`` is true,
    if it is of the same parameters and images.
    """
    run = load_run(folder, args.device)
    model = run.averaged() if args.average else run.model
    images = images_of(args, run)
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    split = "" if args.split == "test" else f"{args.split}_"
    name = f"evaluation_{len(images)}_{split}images_k_{args.k}"
    name += "".join(f"_{key}_{seed}" for key, seed in seeds.items() if seed)
    name += "_averaged" if args.average else ""
    path = folder / f"{name}.json"
    if not again and path.with_suffix(".npz").is_file():
        kept = Evaluation.load(path.with_suffix(".npz"))
        x = images_seen(model, images, args.binarize_seed)
        digests = digest_of_images(x), model.params.digest()
        if (kept.x_digest, kept.params_digest) == digests:
            return run, kept, path
    partial = path.with_suffix(".partial.npz")
    result = evaluate(model, images, args.k, **seeds, partial=partial)
    what = {"nll_is": NLL_NAMES[model.likelihood][0], "split": args.split}
    write_json(path, result.summary() | seeds | what)
    result.save(path.with_suffix(".npz"))
    return run, result, path


def images_of(args, run):
    """The images that are asked for, of the run's image set."""
    images = getattr(load_images(run, args.data), f"{args.split}_images")
    if images is None:
        raise ValueError(f"{run.folder} held back no images: see train --validation")
    return images[: args.images]
