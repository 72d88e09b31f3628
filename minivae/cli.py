"""The command line: minivae train | evaluate | sample | compare | gradcheck | reference
| reproduce | demo.

Exit codes: 0 done; 1 the run or the check failed; 2 wrong use or bad input; 130 stopped
by Ctrl-C.
"""

import argparse
import errno
import inspect
import os
import warnings
from functools import partial
from pathlib import Path

from . import __version__
from .commands import COMMANDS
from .commands.arguments import positive
from .engine.checks import did_you_mean
from .engine.interrupt import NOTHING_KEPT
from .engine.report import (
    flush_all,
    open_missing_descriptors,
    say,
    say_only_errors,
    warn_in_a_line,
)
from .engine.threads import ask_for
from .training import NonFiniteError


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
        with say_only_errors(args.quiet):
            return args.command(args)
    except KeyboardInterrupt as stop:
        reason = str(stop) or "stopped"
        if str(stop):
            then = "begins anew" if reason.endswith(NOTHING_KEPT) else "resumes there"
            reason += f". The same command again {then}."
        say(f"\nminivae: {reason}", "stderr")
        return 130
    except (NonFiniteError, MemoryError) as error:
        say(f"minivae: the run failed: {error}", "stderr")
        return 1
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        say(f"minivae: error: {error}", "stderr")
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        return 1 if full else 2


def parser():
    """The argument parser: one subcommand a verb, each with an example."""
    top = Parser(
        prog="minivae",
        description="Variational and importance weighted autoencoders, with"
        " hand-written, checked gradients.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=inspect.cleandoc(command.run.__doc__ or command.SUMMARY),
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command.run, parser=sub)
        option = partial(add_option, sub)
        option("--threads", type=positive, help="How many threads to use, if not all.")
        option("--quiet", action="store_true", help="Say nothing but errors.")
        command.add_options(option)
    return top


class Parser(argparse.ArgumentParser):
    """One whose errors are one line, and end in what helps."""

    def error(self, message):
        what, _, unknown = message.partition("unrecognized arguments: ")
        if not what and unknown:
            message += self.nearest(unknown.split()[0].split("=")[0])
        raise ValueError(f"{message} (see {self.prog} --help)")

    def parse_args(self, args=None, namespace=None):
        """Unknown arguments are the subcommand's to speak of."""
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return args

    def nearest(self, option):
        """The option that may have been meant, in words."""
        names = {
            name.removeprefix("--").replace("-", "_"): name
            for name in self._option_string_actions
        }
        meant = did_you_mean(option.lstrip("-").replace("-", "_"), names)
        for name, dashed in names.items():
            meant = meant.replace(f"mean {name}?", f"mean {dashed}?")
        return meant


def add_option(parser, *names, help, **settings):
    """`add_argument`, with the default in the help text."""
    if isinstance(settings.get("default"), (str, int, float, Path)):
        help += " (default: %(default)s)"
    parser.add_argument(*names, help=help, **settings)


def limit_threads(threads):
    """Use so many threads (`minivae.engine.threads`); None leaves it to the BLAS."""
    if threads is not None:
        if threads > os.cpu_count():
            raise ValueError(
                f"--threads must be at most {os.cpu_count()} here; got {threads}"
            )
        ask_for(threads)
