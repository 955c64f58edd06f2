"""Truncated backpropagation beside the example of a teacher."""

import math

import tensorflow as tf

from keras_l2l import checks
from keras_l2l import unroll as unroll_lib
from keras_l2l.estimators import truncated_backprop
from keras_l2l.rules.base import UpdateRule


class Imitation(truncated_backprop.TruncatedBackprop):
    """Adds to the meta-loss how far the updates are from a teacher's.

    ```
    meta_loss = sum(loss_weights * losses)
        + imitation_weight * |updates - taught|^2 / |taught|^2
    ```

    Both norms are over the unroll and all coordinates, or estimated from those
    of the sample, so that their ratio has a bias. `taught` is what the teacher
    would have done with the gradients that the rule saw, on the rule's own way.
    A short unroll does not reward what pays late, as large steps that
    oscillate; a teacher that was tuned for the whole horizon shows it.

    Args:
        rule, task, horizon, unroll_length, second_derivatives, loss_weights,
            sampled_coordinates, compile_unroll: As for `TruncatedBackprop`,
            but that `second_derivatives` must be False.
        teacher: `UpdateRule` with the meta-parameters that it starts with,
            as `rules.Adam(0.01)`.
        imitation_weight: Positive float, how much the relative error counts.

    Raises:
        ValueError: as there, and if the rule or the teacher doesn't treat
            every coordinate by itself.

    Reference:
        Chen et al., 2020 (arXiv 2010.09089).
    """

    def __init__(
        self,
        rule,
        task,
        horizon,
        unroll_length,
        second_derivatives=False,
        loss_weights="sum",
        sampled_coordinates=None,
        compile_unroll=False,
        *,
        teacher,
        imitation_weight=1.0,
    ):
        if not isinstance(teacher, UpdateRule):
            raise ValueError(
                "`teacher` must be a keras_l2l.UpdateRule. Received: "
                f"teacher={teacher!r} (of type {type(teacher).__name__})."
            )
        checks.require_positive("imitation_weight", imitation_weight)
        if second_derivatives:
            raise ValueError(
                "`second_derivatives` must be False with a teacher. Received: "
                f"second_derivatives={second_derivatives!r}, and "
                f"{type(teacher).__name__}. Leave out one of them "
                "(--teacher=none)."
            )
        if sampled_coordinates is None:
            sampled_coordinates = _ALL
        if isinstance(rule, UpdateRule):
            rule = _Taught(rule, teacher)
        super().__init__(
            rule,
            task,
            horizon,
            unroll_length,
            False,
            loss_weights,
            sampled_coordinates,
            compile_unroll,
        )
        self.imitation_weight = imitation_weight
        self._sizes = [math.prod(v.shape) for v in task.variables()]

    def _auxiliary(self, updates, gradients, state, iteration):
        taught = unroll_lib.updates_of(
            self.rule.teacher,
            self.rule.teacher_meta_params(updates[0].dtype),
            gradients,
            state["teacher"],
            iteration,
        )
        with tf.GradientTape() as tape:
            tape.watch(updates)
            differences = [u - t for u, t in zip(updates, taught, strict=True)]
            error = self.imitation_weight * self._square(differences)
            error = tf.math.divide_no_nan(error, self._square(taught))
        return error, tape.gradient(error, updates)

    def _square(self, sampled):
        """Returns the squared norm of tensors that these are samples of."""
        return tf.add_n(
            [
                tf.reduce_sum(tf.square(t)) * (size / max(1, t.shape[1]))
                for t, size in zip(sampled, self._sizes, strict=True)
            ]
        )


# As a sample: larger than any tensor.
_ALL = 2**31 - 1


class _Taught(UpdateRule):
    """A rule, beside which a teacher is told of the same gradients.

    The updates are the rule's, the state is that of both.
    """

    def __init__(self, rule, teacher):
        self._rule, self.teacher = rule, teacher
        self.uses_params = rule.uses_params or teacher.uses_params
        self.uses_loss = rule.uses_loss or teacher.uses_loss
        self.jit_compile = rule.jit_compile and teacher.jit_compile

    @property
    def unused(self):
        return self._rule.unused

    def for_variables(self, variables):
        return _Taught(
            self._rule.for_variables(variables),
            self.teacher.for_variables(variables),
        )

    def for_num_steps(self, num_steps):
        return _Taught(
            self._rule.for_num_steps(num_steps),
            self.teacher.for_num_steps(num_steps),
        )

    def init_meta_params(self, seed):
        return self._rule.init_meta_params(seed)

    def teacher_meta_params(self, dtype):
        return tf.nest.map_structure(
            lambda t: tf.cast(t, dtype), self.teacher.init_meta_params(0)
        )

    def init_state(self, shapes):
        return {
            "rule": self._rule.init_state(shapes),
            "teacher": self.teacher.init_state(shapes),
        }

    def take(self, state, shapes, coordinates):
        return {
            "rule": self._rule.take(state["rule"], shapes, coordinates),
            "teacher": self.teacher.take(state["teacher"], shapes, coordinates),
        }

    def step(self, meta_params, inputs, state):
        updates, of_rule = self._rule.step(meta_params, inputs, state["rule"])
        _, of_teacher = self.teacher.step(
            self.teacher_meta_params(updates[0].dtype), inputs, state["teacher"]
        )
        return updates, {"rule": of_rule, "teacher": of_teacher}
