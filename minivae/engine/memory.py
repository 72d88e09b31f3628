"""How much memory there is, asked before a size that was mistyped takes all of it."""

import os
from math import inf


def check_memory(what, size, lower):
    """Raise ValueError if ``size`` bytes are more than the machine has.

    Parameters
    ----------
    what, lower : str
        What would take them, and what to lower: words of the error.
    """
    there = machine_bytes()
    if size > there:
        raise ValueError(
            f"{what} would take about {size / 1e9:,.0f} GB, and this machine has"
            f" {there / 1e9:,.0f} GB: lower {lower}"
        )


def machine_bytes():
    """The machine's memory; infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return inf
