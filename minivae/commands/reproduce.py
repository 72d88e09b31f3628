"""minivae reproduce."""

import os
from functools import partial
from pathlib import Path

from ..engine.lock import writing_in
from ..engine.report import say
from ..experiments import EXPERIMENTS, OF_A_RUN
from ..experiments.pool import cluster, processes
from ..experiments.tables import TABLES, select, train_table
from ..experiments.tables_page import write_report
from ..kernels import DEVICES
from ..kernels.device import require_device
from ..presets import PRESETS
from .arguments import path_of, positive, seed_of

SUMMARY = "Repeat the paper's experiments, and measure the estimators."
EXAMPLE = (
    "minivae reproduce table1 --cells 'mnist-1-*' --seeds 0 1 2 --out runs/tables\n"
    "  minivae reproduce snr --out runs/snr"
)
TABLES_FOLDER = Path("runs/tables")
# option -> the experiments that take it; --out is for all
OF_TABLES = (
    "cells",
    "preset",
    "seeds",
    "device",
    "workers",
    "threads_per_cell",
    "dask",
)
TAKEN_BY = {name: [*TABLES] for name in OF_TABLES} | {
    "to": [*TABLES, "report"],
    "run": [*OF_A_RUN],
    "data": [*TABLES, *OF_A_RUN],
}


def add_options(option):
    """Its arguments, by ``option``, which is `add_argument` (`minivae.cli`)."""
    of_a_run = " and ".join(OF_A_RUN)
    option(
        "experiment",
        choices=[*TABLES, "report", *EXPERIMENTS, *OF_A_RUN],
        help="What to measure.",
    )
    option("--run", type=path_of, help=f"The folder of a run, for {of_a_run}.")
    option(
        "--out",
        type=path_of,
        help=f"The folder. Left out, it is runs/EXPERIMENT, or {TABLES_FOLDER}.",
    )
    option(
        "--to",
        type=path_of,
        metavar="FOLDER",
        help="Of the tables: where their pages go, in table1/ and table2/. Left out, it"
        " is the folder of the runs.",
    )
    option(
        "--cells",
        nargs="+",
        metavar="PATTERN",
        help="Of the tables: only the cells that match, as 'mnist-1-*' or"
        " mnist-2-iwae-50.",
    )
    option(
        "--preset",
        choices=[*PRESETS],
        help="Of the tables: how to train. Left out, it is fast.",
    )
    option(
        "--seeds",
        type=seed_of,
        nargs="+",
        metavar="SEED",
        help="Of the tables: each cell is trained once for each. Left out, it is 0.",
    )
    option(
        "--data",
        type=path_of,
        metavar="PATH",
        help=f"Of the tables, {of_a_run}: the file of OMNIGLOT, or of an image set in"
        " its place. Left out, OMNIGLOT is fetched.",
    )
    option(
        "--device",
        choices=[*DEVICES],
        help="Of the tables: where to train and evaluate. Left out, it is cpu.",
    )
    option(
        "--workers",
        type=positive,
        help="Of the tables: how many cells at once. Left out, as many as there are"
        " cores for.",
    )
    option(
        "--threads-per-cell",
        type=positive,
        help="Of the tables: how many threads each cell has. Left out, it is one.",
    )
    option(
        "--dask",
        metavar="ADDRESS",
        help="Of the tables: the scheduler of a Dask cluster that trains the cells, as"
        " tcp://10.0.0.1:8786. Its workers must see the folder and the data.",
    )


def run(args):
    """Repeat an experiment, and write the table, the raw numbers and the pictures.

    table1: NLL and active units of VAE against IWAE, Burda et al. (2016), each cell a
    run's folder OUT/PRESET/CELL/seedN. table2: what becomes of a trained model when the
    objective is switched, and, as a control, when it is not.

    report: the pages of both tables, from the runs that are there. With --to, what
    those pages say of other runs stays: so runs of several machines are collected.

    snr: signal-to-noise ratio of the gradients against K, on the linear-Gaussian toy of
    Rainforth et al. (2018) and on an MNIST model. estimators: the same model trained by
    each estimator. sparse: the sparse backward against the dense one, by NLL and time.
    truth: the NLL of two latent units against quadrature.
    recipes: how the preset fast was found, by validation NLL. departures: what the
    released code of Burda et al. does otherwise than their text, and what it changes.

    Of a run that is trained, --run: measures, NLL without its inactive units, on
    training images, and by annealing; refit, its bounds when the encoder alone is
    trained again by the ELBO and by the IWAE bound.

    The same command again resumes each where it was stopped.
    """
    for name, experiments in TAKEN_BY.items():
        if getattr(args, name) is not None and args.experiment not in experiments:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is for {' and '.join(experiments)} only")
    if args.to is not None and args.to.exists() and not args.to.is_dir():
        raise NotADirectoryError(f"--to {args.to}: not a folder")
    if args.experiment in TABLES:
        return run_table(args)
    if args.experiment == "report":
        out = args.out or TABLES_FOLDER
        if not any((out / preset).is_dir() for preset in PRESETS):
            raise FileNotFoundError(
                f"{out}: no runs of the tables are here; `minivae reproduce table1"
                f" --out {out}` trains them"
            )
        for table in TABLES:
            report(table, out, args.to)
        return 0
    of_a_run = args.experiment in OF_A_RUN
    if of_a_run and args.run is None:
        raise ValueError(f"{args.experiment} needs --run, the folder of a run")
    folder = args.out or Path("runs") / args.experiment
    with writing_in(folder):
        if of_a_run:
            table = OF_A_RUN[args.experiment](folder, args.run, args.data)
        else:
            table = EXPERIMENTS[args.experiment](folder)
    say(f"{table}\n\nwritten: {folder}")
    return 0


def run_table(args):
    """Train and evaluate the cells of a table."""
    threads, out, data_path = args.threads_per_cell or 1, args.out, args.data
    if threads > cores() and not args.dask:
        raise ValueError(
            f"--threads-per-cell must be at most {cores()} here; got {threads}"
        )
    out = out or TABLES_FOLDER
    if args.dask:
        open_executor = partial(cluster, args.dask)
        # the workers stand in other folders
        out, data_path = out.absolute(), data_path and data_path.absolute()
    else:
        if args.device == "cuda":
            require_device()  # an error should come now, not from each cell
        workers = args.workers or max(1, cores() // threads)
        open_executor = partial(processes, workers, threads)
    failed = train_table(
        select(args.experiment, args.cells or ["*"]),
        out,
        args.preset or "fast",
        seeds=args.seeds or [0],
        data_path=data_path,
        device=args.device or "cpu",
        open_executor=open_executor,
        threads=threads,
    )
    report(args.experiment, out, args.to)
    say(f"{len(failed)} failed; runs: {out}" if failed else f"runs: {out}")
    return 1 if failed else 0


def report(table, out, to):
    """Write a table's page from the runs that are there, and say its table."""
    folder = (to or out) / table
    page = write_report(table, out, folder)
    say(f"{page.partition(chr(10) * 2 + '![')[0]}\n\nwritten: {folder}")


def cores():
    """How many this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count()
    )
