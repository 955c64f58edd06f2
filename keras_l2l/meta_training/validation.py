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
        held_out: Bool, whether the last loss of each episode is of examples
            that it was not trained on.

    Attributes:
        losses: Function from meta-parameters to the losses of all episodes,
            `[episodes, horizon]`.
    """

    def __init__(
        self,
        rule,
        tasks,
        horizon,
        episodes,
        compile_unroll=False,
        held_out=False,
    ):
        self._horizon, self._held_out = horizon, held_out
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
            length = tf.constant(horizon, tf.int64)
            self._episodes.append(
                (rule, task, Episode(seed, carry, length, length))
            )

    def _losses(self, meta_params):
        return tf.stack(
            [
                losses(
                    *one,
                    meta_params,
                    self._horizon,
                    "meta_valid",
                    self._held_out,
                )
                for one in self._episodes
            ]
        )


def losses(
    rule, task, episode, meta_params, inner_steps, split, held_out=False
):
    """Returns the losses of an episode's next steps, `[inner_steps]`.

    With `held_out`, the last is of examples that it was not trained on.
    """
    task = task.sample(episode.seed)
    found, carry = unroll_lib.unroll(
        rule,
        task,
        meta_params,
        episode.carry,
        task.batches(split, episode.seed),
        inner_steps,
        num_steps=episode.num_steps,
    )
    if not held_out:
        return found
    batch = task.held_out_batch(split, episode.seed, carry.iteration)
    last = task.evaluation_loss(carry.params, carry.non_trainable, batch)
    return tf.concat([found[:-1], tf.cast(last, found.dtype)[None]], axis=0)
