"""What a meta-gradient estimator is."""

import copy
import dataclasses
import typing

import tensorflow as tf

from keras_l2l.estimators import meta_loss
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.rules.base import UpdateRule
from keras_l2l.tasks.base import Task
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import checks
from keras_l2l.utils.options import Options


class Episode(typing.NamedTuple):
    """One optimizee in training.

    Attributes:
        seed: Scalar int64 tensor, the episode seed.
        carry: `keras_l2l.estimators.unroll.Carry`.
        length: Scalar int64 tensor, inner steps that the episode will have.
        num_steps: Scalar int64 tensor, the length that the rule is told; 0 if
            it is not.
    """

    seed: typing.Any
    carry: typing.Any
    length: typing.Any
    num_steps: typing.Any


# Compared by identity: TensorFlow keeps what it has traced for each object.
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GradientEstimator(Options):
    """Estimates the gradient of the meta-loss in the meta-parameters.

    An estimator is configuration. `bind` returns a copy of it that works on a
    rule and a task. A subclass defines `_estimate`, its options as fields, and
    `name`.

    Args:
        unroll_length: Int, inner steps per meta-gradient.
        loss_weights: How the losses of an unroll make the meta-loss: their
            `"sum"`, their `"mean"`, the `"last"`, the mean of their `"log"`,
            so that small losses count as much as large ones, or a list of
            `horizon` floats, a weight for each inner step.
        compile_unroll: Bool, whether XLA compiles the optimizee, too. This is
            several times as fast for small models with a cheap rule, and
            slower for large convolutions. XLA draws other normal random
            numbers.

    Attributes:
        name: String, what flags call the estimator.
        rule: The rule for the task's variables, once bound; so are these.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps in an episode.

    Raises:
        ValueError: if an option is of a wrong type or out of its range.
    """

    # Whether the meta-loss is of examples that episodes are not trained on.
    held_out = False
    unroll_length: int = 20
    loss_weights: meta_loss.Named | list = "sum"
    compile_unroll: bool = False

    def __post_init__(self):
        super().__post_init__()
        weights = meta_loss.checked(self.loss_weights)
        self._replace_field("loss_weights", weights)

    def bind(
        self, rule: UpdateRule, task: TaskFamily, horizon: int
    ) -> typing.Self:
        """Returns a copy that estimates meta-gradients of a rule on a task.

        Args:
            rule: `UpdateRule`.
            task: `Task` or `TaskFamily`.
            horizon: Int, inner steps in an episode; a multiple of
                `unroll_length`.

        Raises:
            ValueError: if an argument is of a wrong type, `unroll_length` does
                not divide `horizon`, or the rule or the task can't do what an
                option asks for.
        """
        if not isinstance(rule, UpdateRule):
            raise ValueError(
                "`rule` must be a keras_l2l.UpdateRule. Received: "
                f"rule={checks.shown(rule)} (of type {type(rule).__name__}). "
                "Pass an instance, such as keras_l2l.MLPRule(); of a preset, "
                "its `rule` and its `meta_params`."
            )
        check_task(task)
        horizon = checks.require_int("horizon", horizon)
        if horizon % self.unroll_length:
            raise ValueError(
                "`unroll_length` must divide `horizon`. Received: "
                f"horizon={horizon}, unroll_length={self.unroll_length}. The "
                f"nearest horizon is {_nearest(horizon, self.unroll_length)}."
            )
        variables = task.variables()
        checks.require_real(variables)
        bound = copy.copy(self)
        vars(bound).update(
            rule=rule.for_num_steps(horizon).for_variables(variables),
            task=task,
            horizon=horizon,
            _meta_loss=meta_loss.MetaLoss(
                self.loss_weights, horizon, self.unroll_length
            ),
            _compiled=tf.function(
                bound._estimate,
                autograph=False,
                # `None`, not `False`: parts of it may be compiled.
                jit_compile=True if self.compile_unroll else None,
            ),
        )
        return bound

    def init(
        self, seed: int, length: int | None = None, is_told: bool = True
    ) -> Episode:
        """Returns a fresh `Episode` of the `train` split.

        Args:
            seed: Int >= 0.
            length: Int, inner steps that it will have. `None` is `horizon`.
            is_told: Bool, whether the rule is told the length.
        """
        seed = tf.constant(split_seed("train", seed), tf.int64)
        carry = unroll_lib.init_carry(self.rule, self.task.sample(seed), seed)
        length = tf.constant(length or self.horizon, tf.int64)
        return Episode(seed, carry, length, length * int(is_told))

    @staticmethod
    def told(task: Task, episode: Episode) -> tuple[typing.Any, typing.Any]:
        """Returns the `num_steps` and `steps_per_epoch` of an unroll."""
        return episode.num_steps, task.steps_per_epoch("train")

    def estimate(
        self, meta_params: typing.Any, episode: Episode, seed: typing.Any
    ) -> tuple[typing.Any, typing.Any, Episode]:
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
        return self._compiled(meta_params, episode, seed)

    def _estimate(self, meta_params, episode, seed):
        """Like `estimate`, which traces it."""
        raise NotImplementedError

    def episode_of(self, episode: Episode) -> Episode:
        """Returns what `unroll` continues from: here, the episode itself."""
        return episode


def _nearest(horizon, unroll_length):
    return max(1, round(horizon / unroll_length)) * unroll_length
