"""What an argument of the command line may be."""

import argparse
from pathlib import Path

DATA_PATH_HELP = (
    "The path of OMNIGLOT's published chardata.mat, or of an .npz made from another."
    " Left out, it is fetched."
)


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
