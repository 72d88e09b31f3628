"""minivae evaluate."""

from .. import data, plots
from ..engine.digest import digest_of_images
from ..engine.files import write_json
from ..engine.report import say
from ..evaluation import evaluate, images_seen
from ..kernels import DEVICES
from ..results import Evaluation
from ..runs import load_run
from .arguments import DATA_PATH_HELP, path_of, positive

SUMMARY = "Measure the test NLL, bounds and active units."
EXAMPLE = "minivae evaluate runs/iwae50 --images 1000"


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    option("run", type=path_of, help="A run's folder.")
    add_measuring_options(option)


def add_measuring_options(option):
    """What is measured, and how, for `measure`."""
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


def run(args):
    """Evaluate a run's model on test images: a table, a JSON file and pictures."""
    run, result, path = measure(args, args.run, again=True)
    units = " + ".join(map(str, result.active_units))
    of_units = " + ".join(map(str, run.model.latent_dims))
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
    figures = args.run / "figures"
    plots.draw_evaluations(
        {f"{run.config['bound']}, k = {run.config['k']}": result}, figures
    )
    say(f"saved: {path}, .npz   pictures: {figures}")
    return 0


def measure(args, folder, again=False):
    """The run in ``folder``, its `Evaluation`, and the JSON file that has been written,
    beside an .npz of the same name. That one is read instead, unless ``again`` is true,
    if it is of the same parameters and images.
    """
    run = load_run(folder, args.device)
    model = run.averaged() if args.average else run.model
    image_set = data.load(run.config.get("data") or "mnist", args.data_path)
    images = image_set.test_images[: args.images]
    seeds = {"binarize_seed": args.binarize_seed, "seed": args.seed}
    name = f"evaluation_{len(images)}_images_k_{args.k}"
    name += "".join(f"_{key}_{seed}" for key, seed in seeds.items() if seed)
    name += "_averaged" if args.average else ""
    path = folder / f"{name}.json"
    if not again and path.with_suffix(".npz").is_file():
        kept = Evaluation.load(path.with_suffix(".npz"))
        x = images_seen(model, images, args.binarize_seed)
        digests = digest_of_images(x), model.params.digest()
        if (kept.x_digest, kept.params_digest) == digests:
            return run, kept, path
    result = evaluate(model, images, args.k, **seeds)
    write_json(path, result.summary() | seeds)
    result.save(path.with_suffix(".npz"))
    return run, result, path
