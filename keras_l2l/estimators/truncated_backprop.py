"""Truncated backpropagation through time."""

import math

import tensorflow as tf

from keras_l2l import checks
from keras_l2l import unroll as unroll_lib
from keras_l2l.estimators import base
from keras_l2l.rules.base import UpdateRule
from keras_l2l.tasks.base import check_second_derivatives
from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed


class TruncatedBackprop(base.GradientEstimator):
    """The exact gradient of each unroll, ignoring what came before it.

    ```
    meta_loss = sum(loss_weights * losses), over the unroll
    meta_gradient = d meta_loss / d meta_params,   carry held constant
    ```

    Args:
        rule: `UpdateRule`.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps in an episode; a multiple of
            `unroll_length`.
        unroll_length: Int >= 1, inner steps per meta-gradient.
        second_derivatives: Bool, see `keras_l2l.unroll.unroll`.
        loss_weights: How the losses of an episode count: `"sum"` (the
            default), all of them; `"mean"`, all of them by
            `1 / unroll_length`; `"last"`, the last of each unroll; or a list
            of `horizon` finite floats, the paper's w.

    Raises:
        ValueError: if an argument is of a wrong type, `unroll_length` does not
            divide `horizon`, or TensorFlow gets the second derivatives of the
            task wrong.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 2.
    """

    def __init__(
        self,
        rule,
        task,
        horizon,
        unroll_length,
        second_derivatives=False,
        loss_weights="sum",
    ):
        if not isinstance(rule, UpdateRule):
            raise ValueError(
                "`rule` must be a keras_l2l.UpdateRule. Received: "
                f"rule={rule!r} (of type {type(rule).__name__})."
            )
        check_task(task)
        checks.require_int("horizon", horizon)
        checks.require_int("unroll_length", unroll_length)
        if horizon % unroll_length:
            raise ValueError(
                "`unroll_length` must divide `horizon`. Received: "
                f"horizon={horizon}, unroll_length={unroll_length}. The "
                f"nearest horizon is {_nearest(horizon, unroll_length)}."
            )
        if second_derivatives:
            check_second_derivatives(task.sample(0))
        self.rule = rule.for_variables(task.variables())
        self.task = task
        self.horizon = horizon
        self.unroll_length = unroll_length
        self.second_derivatives = second_derivatives
        self._loss_weights = _weights(loss_weights, horizon, unroll_length)

    def init(self, seed):
        seed = tf.constant(split_seed("train", seed), tf.int64)
        carry = unroll_lib.init_carry(self.rule, self.task.sample(seed), seed)
        return base.Episode(seed, carry)

    @tf.function(autograph=False)
    def estimate(self, meta_params, episode, seed):
        del seed  # Everything random here belongs to the episode.
        task = self.task.sample(episode.seed)
        flat = tf.nest.flatten(meta_params)
        with tf.GradientTape() as tape:
            tape.watch(flat)
            losses, carry = unroll_lib.unroll(
                self.rule,
                task,
                meta_params,
                episode.carry,
                task.batches("train", episode.seed),
                self.unroll_length,
                self.second_derivatives,
            )
            start = tf.cast(episode.carry.iteration, tf.int32)
            weights = tf.constant(self._loss_weights, losses.dtype)
            weights = tf.slice(weights, [start], [self.unroll_length])
            meta_loss = tf.reduce_sum(weights * losses)
        gradient = tape.gradient(
            meta_loss, flat, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradient = tf.nest.pack_sequence_as(meta_params, gradient)
        return gradient, meta_loss, base.Episode(episode.seed, carry)


def _weights(loss_weights, horizon, unroll_length):
    """Returns a list of `horizon` floats."""
    of_an_unroll = {
        "sum": [1.0] * unroll_length,
        "mean": [1 / unroll_length] * unroll_length,
        "last": [0.0] * (unroll_length - 1) + [1.0],
    }
    if isinstance(loss_weights, str) and loss_weights in of_an_unroll:
        return of_an_unroll[loss_weights] * (horizon // unroll_length)
    if (
        isinstance(loss_weights, (list, tuple))
        and len(loss_weights) == horizon
        and all(
            isinstance(w, (int, float)) and math.isfinite(w)
            for w in loss_weights
        )
    ):
        return [float(w) for w in loss_weights]
    raise ValueError(
        f"`loss_weights` must be {', '.join(of_an_unroll)} or a list of "
        f"horizon={horizon} finite floats. Received: "
        f"loss_weights={loss_weights!r}"
    )


def _nearest(horizon, unroll_length):
    return max(1, round(horizon / unroll_length)) * unroll_length
