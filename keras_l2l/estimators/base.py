"""What a meta-gradient estimator is."""

import typing

import tensorflow as tf

from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.rules.base import UpdateRule
from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import checks


class Episode(typing.NamedTuple):
    """One optimizee in training.

    Attributes:
        seed: Scalar int64 tensor, the episode seed.
        carry: `keras_l2l.estimators.unroll.Carry`.
    """

    seed: typing.Any
    carry: typing.Any


class GradientEstimator:
    """Estimates the gradient of the meta-loss in the meta-parameters.

    Attributes:
        horizon: Int, inner steps in an episode.
        unroll_length: Int, inner steps per meta-gradient.
    """

    def init(self, seed):
        """Returns a fresh `Episode` of the `train` split.

        Args:
            seed: Int >= 0.
        """
        raise NotImplementedError

    def estimate(self, meta_params, episode, seed):
        """Takes `unroll_length` inner steps of one episode.

        Args:
            meta_params: Nest of tensors.
            episode: `Episode`.
            seed: Scalar integer tensor, for the estimator's own random
                numbers.

        Returns:
            Tuple `(meta_gradient, meta_loss, episode)`: a nest like
            `meta_params`, a scalar, and the episode `unroll_length` steps on.
        """
        raise NotImplementedError

    def episode_of(self, episode):
        """Returns what `unroll` goes on from: here, the episode itself."""
        return episode


class UnrollEstimator(GradientEstimator):
    """An estimator that unrolls a rule on a task.

    Args:
        rule: `UpdateRule`.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps in an episode; a multiple of
            `unroll_length`.
        unroll_length: Int >= 1, inner steps per meta-gradient.
        compile_unroll: Bool, whether XLA compiles the optimizee, too: unrolls
            of small ones, with a cheap rule, are several times as fast, large
            convolutions slower. What a task draws in it from a normal
            distribution is drawn otherwise.

    Attributes:
        rule: The rule for the task's variables.
        task, horizon, unroll_length, compile_unroll: As given.

    Raises:
        ValueError: if an argument is of a wrong type, or `unroll_length` does
            not divide `horizon`.
    """

    def __init__(
        self, rule, task, horizon, unroll_length, compile_unroll=False
    ):
        if not isinstance(rule, UpdateRule):
            raise ValueError(
                "`rule` must be a keras_l2l.UpdateRule. Received: "
                f"rule={checks.shown(rule)} (of type {type(rule).__name__})."
            )
        check_task(task)
        horizon = checks.require_int("horizon", horizon)
        unroll_length = checks.require_int("unroll_length", unroll_length)
        if horizon % unroll_length:
            raise ValueError(
                "`unroll_length` must divide `horizon`. Received: "
                f"horizon={horizon}, unroll_length={unroll_length}. The "
                f"nearest horizon is {_nearest(horizon, unroll_length)}."
            )
        variables = task.variables()
        checks.require_real(variables)
        self.rule = rule.for_num_steps(horizon).for_variables(variables)
        self.task = task
        self.horizon = horizon
        self.unroll_length = unroll_length
        self.compile_unroll = compile_unroll
        self._compiled = tf.function(
            self._estimate,
            autograph=False,
            # As it comes, and not `False`: parts of it may be compiled.
            jit_compile=True if compile_unroll else None,
        )

    def estimate(self, meta_params, episode, seed):
        return self._compiled(meta_params, episode, seed)

    def _estimate(self, meta_params, episode, seed):
        """Is `estimate`, to be traced."""
        raise NotImplementedError

    def init(self, seed):
        seed = tf.constant(split_seed("train", seed), tf.int64)
        carry = unroll_lib.init_carry(self.rule, self.task.sample(seed), seed)
        return Episode(seed, carry)


def _nearest(horizon, unroll_length):
    return max(1, round(horizon / unroll_length)) * unroll_length
