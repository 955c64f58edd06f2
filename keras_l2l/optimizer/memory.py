"""How much memory there is, and a warning before it is taken."""

import pathlib
import warnings


def warn_if_scarce(needed, share):
    """Warns if more than a share of the free memory is going to be taken.

    Args:
        needed: Int, bytes of optimizer state.
        share: Float, of the free memory.
    """
    free = available()
    if free is not None and needed > share * free:
        warnings.warn(
            f"The state of this optimizer takes {needed / 2**20:,.0f} MB, "
            f"more than {share:.0%} of the {free / 2**20:,.0f} MB of free "
            "memory. Ways out: a rule with fewer units; a rules.Partition "
            "that gives the largest variables to a hand-designed rule; frozen "
            "layers. The limit is LearnedOptimizer.memory_share.",
            stacklevel=5,
        )


def available():
    """Returns the bytes that can be allocated, or None where unknown."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, value, *_ = line.split()
        if name == "MemAvailable:":
            return 1024 * int(value)
    return None
