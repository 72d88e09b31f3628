"""What an argument of the command line may be."""

import argparse
from pathlib import Path

DATA_HELP = (
    "mnist, omniglot, fashion-mnist, or a path: .npy, .npz, .csv, IDX (plain or"
    " gzipped), a folder of pictures with a subfolder for each label."
)
RUN_DATA_HELP = (
    "Where the images are that the run was trained on (as for train), if they are not"
    " where it had them from."
)


def positive(text):
    """An argument that is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on; got {text!r}")
    return int(text)


def seed_of(text):
    """An argument that is a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 on; got {text!r}")
    return int(text)


def data_of(text):
    """An argument that is the name or the path of an image set."""
    if not text:
        raise argparse.ArgumentTypeError("a name or a path; got ''")
    return text


def path_of(text):
    """An argument that is a path. An empty one, of a variable that is not set, would be
    the folder where one stands.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path; got ''")
    return Path(text)


def sizes(text):
    """An argument such as 200,200."""
    return tuple(positive(part.strip()) for part in text.split(","))


def layers_of_sizes(text):
    """An argument such as 200,200/100,100."""
    return tuple(sizes(part) for part in text.split("/"))
