"""How long the episodes of meta-training are."""

import math
import random


class EpisodeLengths:
    """Lengths of episodes, of each group that starts together.

    Args:
        horizon: Int, inner steps of the longest.
        unroll_length: Int, a divisor of it: that of every length.
        meta_steps: Int, of the run.
        first_horizon: Int, how long the longest may be at the start. It grows
            by a factor each meta-step, to `horizon` at half of the run: a
            curriculum. `None` is `horizon`.
        log_uniform: Bool, whether lengths are drawn, by their logarithm, from
            `unroll_length` to the longest, instead of being the longest.
        seed: Int.
    """

    def __init__(
        self,
        horizon,
        unroll_length,
        meta_steps,
        first_horizon=None,
        log_uniform=False,
        seed=0,
    ):
        self._horizon = horizon
        self._unroll_length = unroll_length
        self._meta_steps = meta_steps
        self._first_horizon = first_horizon or horizon
        self._log_uniform = log_uniform
        self._seed = seed

    def unrolls(self, group, meta_step):
        """Returns the length in unrolls, an int >= 1.

        Args:
            group: Int, number of the group.
            meta_step: Int, that it starts at.
        """
        grown = min(1.0, 2 * meta_step / self._meta_steps)
        ratio = self._horizon / self._first_horizon
        length = self._first_horizon * ratio**grown
        if self._log_uniform:
            draw = random.Random(f"{self._seed} {group}")  # noqa: S311
            shortest = math.log(self._unroll_length)
            length = math.exp(draw.uniform(shortest, math.log(length)))
        return max(1, round(length / self._unroll_length))
