"""Seconds and memory, measured fairly."""

import concurrent.futures
import math
import multiprocessing
import pathlib
import statistics
import time


def alternate(work, repeats, turn=0.05):
    """Returns the median seconds of functions that take turns.

    What slows the machine for a while then slows all of them.

    Args:
        work: Dict of functions without arguments, by name.
        repeats: Int, turns of each.
        turn: Float, seconds that a turn takes at least: of a function that is
            faster it has several calls.
    """
    calls = {
        name: max(1, math.ceil(turn / seconds(run)))
        for name, run in work.items()
    }
    times = {name: [] for name in work}
    for _ in range(repeats):
        for name, run in work.items():
            run()  # Into the caches again.
            times[name].append(seconds(run, calls[name]))
    return {name: statistics.median(t) for name, t in times.items()}


def seconds(run, calls=1):
    """Returns the seconds of a call, as the mean of several."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def in_fresh_process(function, *args):
    """Returns `function(*args)`, run where nothing has been allocated yet."""
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as pool:
        return pool.submit(function, *args).result()


def reset_peak_mb():
    """Forgets the peak of this process's memory; returns what it takes now.

    In MB of resident memory; Linux only.
    """
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb():
    """Returns the peak of resident memory since it was last forgotten."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [x for x in status.splitlines() if x.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
