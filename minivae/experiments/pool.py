"""Jobs, several at once: on processes of this machine, or on a Dask cluster.

A worker may die at any moment: a job leaves whole files only, and whoever gets it next
goes on from them. So that is how workers are stopped, too. They hold one end of a pipe
and die when the other is closed, by their parent after Ctrl-C or by its own death.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe, get_context

from ..engine.threads import ask_for

MOST_DEATHS = 3  # of workers that had the same job
POLL = 1.0  # seconds between two looks at the running jobs
# what the libraries of matrix products read when they are loaded
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """``function(*arguments)``, which can be sent to another process, and the names of
    the jobs that have to be done before it.
    """

    function: Callable
    arguments: tuple
    needs: tuple = ()


def run_jobs(jobs, open_executor, threads, watch):
    """Run all jobs, one a worker; of those that are ready, the first comes first.

    Parameters
    ----------
    jobs : dict
        Name -> `Job`.
    open_executor : callable
        A context manager that yields an Executor, and a function that says how many
        workers it has. It is opened again where a dead worker broke the Executor.
    threads : int
        Of each job.
    watch : callable
        Called about every second with the names of the jobs that are running, those
        that are done, and those that failed as returned.

    Returns
    -------
    failed : dict
        Name -> the exception of a job that failed. What needed it was not begun.
    """
    done, failed, deaths = set(), {}, Counter()

    def ready(running):
        taken = done | failed.keys() | {*running.values()}
        return [
            name
            for name, job in jobs.items()
            if name not in taken and done.issuperset(job.needs)
        ]

    while ready({}):
        with open_executor() as (executor, workers):
            running, broken = {}, False  # future -> name
            while running or (ready(running) and not broken):
                free = 0 if broken else max(1, workers()) - len(running)
                for name in ready(running)[: max(0, free)]:
                    function, arguments = jobs[name].function, jobs[name].arguments
                    try:
                        with ctrl_c_later():  # a worker may begin here
                            future = executor.submit(call, threads, function, arguments)
                    except BrokenExecutor:  # an idle worker died
                        broken = True
                        break
                    running[future] = name
                finished, _ = wait(running, POLL, FIRST_COMPLETED)
                for future in finished:
                    name = running.pop(future)
                    try:
                        future.result()
                        done.add(name)
                    except BrokenExecutor as error:
                        broken = True
                        deaths[name] += 1
                        if deaths[name] == MOST_DEATHS:
                            failed[name] = error
                    except Exception as error:
                        failed[name] = error
                watch([*running.values()], done, failed)
    return failed


def call(threads, function, arguments):
    """What a worker does."""
    ask_for(threads)
    return function(*arguments)


@contextmanager
def processes(workers, threads):
    """An Executor of this machine, for `run_jobs`: new processes, whose libraries are
    loaded for so many threads.
    """
    held, closing = Pipe(duplex=False)
    context = get_context("spawn")
    with (
        held,
        closing,
        environment(dict.fromkeys(VARIABLES, str(threads))),
        ProcessPoolExecutor(workers, context, begin, (held,)) as executor,
    ):
        try:
            yield executor, lambda: workers
        except BaseException:
            closing.close()  # or the Executor waits for the running jobs
            raise


@contextmanager
def ctrl_c_later():
    """Ctrl-C waits for the end of this, and in the processes that begin in here for
    ever: before `begin` they have nothing to say to it but a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(held):
    """A new worker leaves Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, args=(held,), daemon=True).start()


def die_with_parent(held):
    """Wait for the end of a pipe, and end the process."""
    held.poll(None)
    os._exit(1)


@contextmanager
def environment(values):
    """Environment variables, for the processes that begin in here."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def cluster(address):
    """An Executor of a Dask cluster, by its scheduler's address, for `run_jobs`.

    The workers see the same files under the same paths. Dask gives the jobs of a dead
    worker to the others by itself.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a cluster needs dask.distributed: pip install 'minivae[cluster]'"
        ) from error
    with Client(address) as client:
        executor = client.get_executor(pure=False)
        try:
            yield executor, lambda: sum(client.nthreads().values())
        finally:
            executor.shutdown(wait=False)
