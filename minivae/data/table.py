"""Tables of numbers as text: CSV, a picture a line."""

import csv
import io

import numpy as np

from ..engine.files import open_regular
from .dataset import pictures_of, refuse_other

MOST_CSV, MOST_LINE = 2**31, 2**24  # bytes of a file, and letters of its first line


def read_csv(path, label_column=None):
    """The `Pictures` of a CSV: a picture a line, its pixels in [0, 1] between commas.

    Parameters
    ----------
    path : Path
    label_column : str or int, optional
        The column that is no pixel but the label: its name in the file's first line, or
        its number from 0 on; -1 is the last one.

    Raises
    ------
    ValueError
        For what is no such table, and for numbers above 1: the text 255 says nothing of
        what white is.
    """
    file = open_regular(path, MOST_CSV)
    with io.TextIOWrapper(file, "utf-8-sig", "replace") as text:
        first = text.readline(MOST_LINE)
    try:
        names = next(csv.reader([first]), [])
    except csv.Error as error:
        raise ValueError(f"{path}: not a table of numbers ({error})") from error
    has_header = label_column in names or not any(map(is_number, names))
    columns = [*range(len(names))]
    labels, label = None, None
    if label_column is not None:
        label = column_number(path, label_column, names if has_header else columns)
        columns.remove(label)
        labels = lines_of(path, has_header, str, usecols=[label])[:, 0]
        labels = np.char.strip(labels)
        if all(word.lstrip("-").isdecimal() for word in labels):
            labels = labels.astype(np.int64)
    if not columns:
        raise ValueError(f"{path}: no pixels in its first line, {first[:50]!r}")
    # all columns are read, so that a line with one too many is seen
    words = {} if label is None else {label: lambda word: 0.0}
    table = lines_of(path, has_header, np.float32, converters=words)[:, columns]
    refuse_other(str(path), table.dtype, table.shape)
    if table.max() > 1:
        named = [names[i] for i in columns] if has_header else columns
        worst = named[int(table.max(axis=0).argmax())]
        is_label = f"say --label-column {worst} if it holds labels, or "
        raise ValueError(
            f"{path}: pixels must lie in [0, 1]; column {worst!r} goes up to"
            f" {table.max():g}: {is_label if label is None else ''}divide the pixels by"
            " the value of white"
        )
    return [pictures_of(table, labels, str(path))]


def lines_of(path, has_header, dtype, **which):
    """The lines of a CSV, or what `numpy.loadtxt` takes of them, (n, columns)."""
    with open_regular(path, MOST_CSV) as file:
        text = io.TextIOWrapper(file, "utf-8-sig")
        try:
            return np.loadtxt(
                text, dtype, delimiter=",", quotechar='"', comments=None,
                skiprows=int(has_header), ndmin=2, **which,
            )  # fmt: skip
        except ValueError as error:  # of which UnicodeDecodeError is one
            raise ValueError(f"{path}: not a table of numbers ({error})") from error


def column_number(path, column, names):
    """Which column is meant by its name or its number."""
    if column in names:
        return names.index(column)
    text = str(column)
    if text.removeprefix("-").isdecimal() and -len(names) <= int(text) < len(names):
        return int(text) % len(names)
    raise ValueError(
        f"{path}: no column {column!r} among {len(names)}:"
        f" {', '.join(map(str, names))[:80]}"
    )


def is_number(text):
    """Whether ``text`` is one."""
    try:
        float(text)
    except ValueError:
        return False
    return True
