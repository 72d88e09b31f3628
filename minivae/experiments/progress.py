"""What is shown of runs that others train: their folders say how far they are."""

import re
import sys
import time
from contextlib import contextmanager, suppress
from statistics import median

from tqdm import tqdm

from ..engine.files import columns_of
from ..engine.report import progress_bar, say

EVERY = 60  # seconds between two lines about a run, where there is no terminal
RECENT = 10  # epochs, by whose time that of the next ones is guessed


def expected_end(history, epochs):
    """When a run will have its ``epochs``, as its last ones went: Mon 17:05."""
    left = epochs - len(history["epoch"])
    seconds = left * median(history["seconds"][-RECENT:])
    return time.strftime("%a %H:%M", time.localtime(time.time() + seconds))


@contextmanager
def progress_of(runs):
    """Yield ``watch`` for `run_jobs`: a bar for each running job in a terminal, and
    else a line for it, at most one an epoch and one a minute; and one when it ends,
    if it is not one of several parts.

    Parameters
    ----------
    runs : dict
        Name of a job that trains -> its run's folder, and how many epochs it will have.
    """
    bars, said, ended = {}, {}, set()  # said: name -> the time, and the epoch then

    def tell(text):
        with tqdm.external_write_mode(sys.stderr):  # above the bars
            say(text, "stderr")

    def watch(running, done, failed):
        for name in [name for name in [*done, *failed] if name not in ended]:
            ended.add(name)
            if name in bars:
                bars.pop(name).close()
            if name in failed:
                tell(f"{name}: failed: {failed[name]}")
            elif not re.search(r", part \d+ of \d+$", name):
                tell(f"{name}: done")
        for name in running:
            folder, epochs = runs.get(name, (None, 1))
            if name not in bars:
                bars[name] = progress_bar(
                    total=epochs,
                    desc=name,
                    leave=False,
                    show=True,
                    bar_format="{desc} {bar} {n_fmt}/{total_fmt} {postfix}",
                )
            history = {}
            with suppress(ValueError):  # a damaged file, which the run writes again
                history = columns_of(folder / "metrics.csv") if folder else {}
            if not history.keys() >= {"epoch", "bound", "seconds"}:
                continue
            epoch, now = history["epoch"][-1], time.monotonic()
            text = f"bound {history['bound'][-1]:.2f}"
            if epoch < epochs:
                text += f", ends {expected_end(history, epochs)}"
            bars[name].n = epoch
            bars[name].set_postfix_str(text)
            when, before = said.get(name, (-EVERY, 0))
            if bars[name].disable and epoch != before and now - when >= EVERY:
                said[name] = now, epoch
                tell(f"{name}: epoch {epoch:.0f} of {epochs}, {text}")

    try:
        yield watch
    finally:
        for bar in bars.values():
            bar.close()
