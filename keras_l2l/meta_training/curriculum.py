"""How long the episodes of meta-training are."""

import math
import random


class EpisodeLengths:
    """The length of each episode.

    Args:
        curriculum: `keras_l2l.meta_training.Curriculum`.
        horizon: Int, inner steps of the longest.
        unroll_length: Int, a divisor of it, and of every length.
        meta_steps: Int, meta-steps of the run.
        seed: Int.
    """

    def __init__(self, curriculum, horizon, unroll_length, meta_steps, seed=0):
        self._first_horizon = curriculum.first_horizon or horizon
        self._log_uniform = curriculum.log_uniform_horizons
        self._untold = curriculum.untold_lengths or 0.0
        self._horizon = horizon
        self._unroll_length = unroll_length
        self._meta_steps = meta_steps
        self._seed = seed

    def unrolls(self, index, meta_step):
        """Returns the length in unrolls, an int >= 1.

        Args:
            index: Int, of the episode in the run.
            meta_step: Int, at which it starts.
        """
        grown = min(1.0, 2 * meta_step / self._meta_steps)
        ratio = self._horizon / self._first_horizon
        length = self._first_horizon * ratio**grown
        if self._log_uniform:
            draw = random.Random(f"{self._seed} {index}")  # noqa: S311
            shortest = math.log(self._unroll_length)
            length = math.exp(draw.uniform(shortest, math.log(length)))
        return max(1, round(length / self._unroll_length))

    def is_told(self, index):
        """Returns whether the rule is told the length of an episode."""
        draw = random.Random(f"told {self._seed} {index}")  # noqa: S311
        return draw.random() >= self._untold
