"""How good meta-parameters are, in whole episodes of `meta_valid`."""

import functools
import itertools

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
        rule = rule.for_num_steps(horizon)
        length = tf.constant(horizon, tf.int64)
        # One program for each task, which takes its episodes one by one.
        bound = [rule.for_variables(task.variables()) for task in tasks]
        self._programs = [
            tf.function(
                functools.partial(
                    losses,
                    *one,
                    inner_steps=horizon,
                    split="meta_valid",
                    held_out=held_out,
                ),
                autograph=False,
                jit_compile=True if compile_unroll else None,
            )
            for one in zip(bound, tasks, strict=True)
        ]
        self.losses = tf.function(self._losses, autograph=False)
        self._episodes = []
        for i in range(episodes):
            seed = tf.constant(split_seed("meta_valid", i), tf.int64)
            chosen = i % len(tasks)
            carry = unroll_lib.init_carry(
                bound[chosen], tasks[chosen].sample(seed), seed
            )
            self._episodes.append(Episode(seed, carry, length, length))

    def _losses(self, meta_params):
        return tf.stack(
            [
                program(episode, meta_params)
                for program, episode in zip(
                    itertools.cycle(self._programs),
                    self._episodes,
                    strict=False,
                )
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
        steps_per_epoch=task.steps_per_epoch(split),
    )
    if not held_out:
        return found
    batch = task.held_out_batch(split, episode.seed, carry.iteration)
    last = task.evaluation_loss(carry.params, carry.non_trainable, batch)
    return tf.concat([found[:-1], tf.cast(last, found.dtype)[None]], axis=0)
