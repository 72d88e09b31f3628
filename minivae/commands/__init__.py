"""The commands of `minivae.cli`, one a file: a summary, an example, the arguments, and
``run``, which returns the exit code and whose docstring is the help text.
"""

from . import (
    compare,
    demo,
    evaluate,
    gradcheck,
    reference,
    reproduce,
    sample,
    train,
)

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "compare": compare,
    "gradcheck": gradcheck,
    "reference": reference,
    "reproduce": reproduce,
    "demo": demo,
}
