"""The commands of `minivae.cli`, one a file: a summary, an example, the arguments, and
``run``, which returns the exit code and whose docstring is the help text.
"""

from . import demo, evaluate, gradcheck, reproduce, sample, train

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "gradcheck": gradcheck,
    "reproduce": reproduce,
    "demo": demo,
}
