"""How good meta-parameters are, in whole episodes of `meta_valid`."""

import tensorflow as tf

from keras_l2l.estimators import Episode
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.tasks.base import split_seed


class ValidationEpisodes:
    """The episodes of every validation, equally many of each task.

    Args:
        rule: `UpdateRule`.
        tasks: List of `Task` or `TaskFamily`.
        horizon: Int, inner steps of an episode.
        episodes: Int, a multiple of the number of tasks.
        compile_unroll: Bool, whether XLA compiles the optimizees, too.

    Attributes:
        losses: Function from meta-parameters to the losses of all episodes,
            `[episodes, horizon]`.
    """

    def __init__(self, rule, tasks, horizon, episodes, compile_unroll=False):
        self._horizon = horizon
        self.losses = tf.function(
            self._losses,
            autograph=False,
            jit_compile=True if compile_unroll else None,
        )
        self._episodes = []
        rule = rule.for_num_steps(horizon)
        bound = [rule.for_variables(task.variables()) for task in tasks]
        for i in range(episodes):
            rule, task = bound[i % len(tasks)], tasks[i % len(tasks)]
            seed = tf.constant(split_seed("meta_valid", i), tf.int64)
            carry = unroll_lib.init_carry(rule, task.sample(seed), seed)
            self._episodes.append((rule, task, Episode(seed, carry)))

    def _losses(self, meta_params):
        return tf.stack(
            [
                losses(*one, meta_params, self._horizon, "meta_valid")
                for one in self._episodes
            ]
        )


def losses(rule, task, episode, meta_params, inner_steps, split):
    """Returns the losses of an episode's next steps, `[inner_steps]`."""
    task = task.sample(episode.seed)
    return unroll_lib.unroll(
        rule,
        task,
        meta_params,
        episode.carry,
        task.batches(split, episode.seed),
        inner_steps,
    )[0]
