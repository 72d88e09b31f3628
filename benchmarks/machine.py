"""What the benchmarks have in common: this machine's peaks, medians and versions."""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from minivae.engine.machine import (  # noqa: F401 (for the others)
    card,
    processor,
    versions,
)
from minivae.engine.recording import recorded
from minivae.kernels.device import SIMULATED, require_device

RESULTS = Path(__file__).parent / "results"


def median_ms(function, *arguments, warm=5, repeats=50):
    """The median time of a call, after some that warm it up, in milliseconds."""
    times = []
    for _ in range(warm + repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[warm:]))


def device_ms(function, *arguments, calls=20, repeats=50):
    """The median time of a call on the GPU, which replays ``calls`` of them in a graph,
    in milliseconds. In the simulator, of a call there.
    """

    def step():
        for _ in range(calls):
            function(*arguments)

    if SIMULATED:
        return median_ms(function, *arguments, warm=0, repeats=1)
    import cupy

    run, begin, end = recorded(step), cupy.cuda.Event(), cupy.cuda.Event()
    times = []
    for _ in range(5 + repeats):
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / calls)
    return float(np.median(times[5:]))


def recordings_must_succeed():
    """A step that was not recorded is not timed in the place of one that was."""
    warnings.filterwarnings("error", message="the step is not replayed")


def need_gpu():
    """End the program with exit code 2, and one line that says what is missing."""
    try:
        require_device()
    except (OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def sgemm_rate(threads, n=2000):
    """GFLOP/s of a float32 product of two n x n matrices."""
    a = np.random.default_rng(0).standard_normal((n, n), np.float32)
    with threadpool_limits(threads):
        return 2 * n**3 / median_ms(lambda: a @ a, warm=2, repeats=10) / 1e6


def copy_rate(megabytes):
    """GB/s of one thread that copies an array: it reads and writes each byte."""
    a = np.ones(megabytes * 250_000, np.float32)
    b = np.empty_like(a)
    return 2 * a.nbytes / median_ms(np.copyto, b, a) / 1e6


def grouped_bars(axes, groups):
    """Bars beside each other: ``groups`` is the label of a group -> name of a bar ->
    its height. A name has a colour; a bar that is missing leaves its place empty.
    """
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    for j, name in enumerate(names):
        at = [i + 0.8 * (j / len(names) - 0.5) for i in range(len(groups))]
        heights = [bars.get(name, np.nan) for bars in groups.values()]
        axes.bar(at, heights, 0.8 / len(names), label=name)
    axes.set_xticks(range(len(groups)), [*groups])
