"""Truncated backpropagation beside the example of a teacher."""

import dataclasses
import math

import tensorflow as tf

from keras_l2l.estimators import truncated_backprop
from keras_l2l.rules import deserialize
from keras_l2l.rules import serialize
from keras_l2l.rules.base import UpdateRule
from keras_l2l.rules.wrapper import WrapperRule


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Imitation(truncated_backprop.TruncatedBackprop):
    """Adds to the meta-loss how far the updates are from a teacher's.

    ```
    meta_loss = sum(loss_weights * losses)
        + imitation_weight * |updates - taught|^2 / |taught|^2
    ```

    Both norms are over the unroll and all coordinates, or estimated from those
    of the sample, so that their ratio has a bias. `taught` are the teacher's
    updates for the gradients along the rule's own trajectory; they have no
    derivatives. A short unroll does not reward what pays off late, such as
    large steps that oscillate. A teacher that was tuned for the whole horizon
    shows it.

    Args:
        unroll_length, loss_weights, compile_unroll, second_derivatives,
            sampled_coordinates: See `TruncatedBackprop`.
        teacher: `UpdateRule` with the meta-parameters that it starts with,
            such as `rules.Adam(0.01)`.
        imitation_weight: Float, how much the relative error to the teacher's
            updates counts beside the losses.

    Raises:
        ValueError: as for `TruncatedBackprop`. Where coordinates are sampled,
            the teacher, too, must treat each by itself.

    Reference:
        Chen et al., 2020 (arXiv 2010.09089).
    """

    name = "imitation"
    teacher: UpdateRule
    imitation_weight: float = 1.0

    def get_config(self):
        return {**super().get_config(), "teacher": serialize(self.teacher)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "teacher": deserialize(config["teacher"])})

    def bind(self, rule, task, horizon):
        if isinstance(rule, UpdateRule):
            rule = _Taught(rule, self.teacher)
        return super().bind(rule, task, horizon)

    def _estimate(self, meta_params, episode, seed):
        # What counts is the error in this unroll.
        carry = episode.carry
        zeros = tf.nest.map_structure(tf.zeros_like, carry.state["squares"])
        carry = carry._replace(state={**carry.state, "squares": zeros})
        episode = episode._replace(carry=carry)
        return super()._estimate(meta_params, episode, seed)

    def _auxiliary(self, state):
        squares = state["squares"]
        return self.imitation_weight * tf.math.divide_no_nan(
            squares["error"], squares["taught"]
        )


class _Taught(WrapperRule):
    """A rule beside a teacher that sees the same gradients.

    The updates are the rule's. The state is that of both, and the sums of
    squares of the teacher's updates and of the differences to them.
    """

    def __init__(self, rule, teacher, sizes=None):
        self._rule, self._teacher = rule, teacher
        # Elements of each tensor, of which updates may be a sample.
        self._sizes = sizes

    def inner_rules(self):
        return {"rule": self._rule, "teacher": self._teacher}

    def with_inner_rules(self, rules):
        return _Taught(**rules, sizes=self._sizes)

    @property
    def unused(self):
        return self._rule.unused

    def for_variables(self, variables):
        bound = super().for_variables(variables)
        bound._sizes = [math.prod(v.shape) for v in variables]
        return bound

    def init_meta_params(self, seed):
        return self._rule.init_meta_params(seed)

    def init_state(self, shapes):
        return {
            "rule": self._rule.init_state(shapes),
            "teacher": self._teacher.init_state(shapes),
            "squares": {"error": tf.zeros([]), "taught": tf.zeros([])},
        }

    def take(self, state, shapes, coordinates):
        return {
            "rule": self._rule.take(state["rule"], shapes, coordinates),
            "teacher": self._teacher.take(
                state["teacher"], shapes, coordinates
            ),
            "squares": state["squares"],
        }

    def replacements(self, state):
        return self._rule.replacements(state["rule"])

    def step(self, meta_params, inputs, state):
        updates, of_rule = self._rule.step(meta_params, inputs, state["rule"])
        dtype = updates[0].dtype
        taught, of_teacher = self._teacher.step(
            tf.nest.map_structure(
                lambda t: tf.cast(t, dtype), self._teacher.init_meta_params(0)
            ),
            inputs,
            state["teacher"],
        )
        taught = [tf.stop_gradient(t) for t in taught]
        errors = [u - t for u, t in zip(updates, taught, strict=True)]
        squares = state["squares"]
        return updates, {
            "rule": of_rule,
            "teacher": of_teacher,
            "squares": {
                "error": squares["error"] + self._square(errors),
                "taught": squares["taught"] + self._square(taught),
            },
        }

    def _square(self, tensors):
        """Returns the squared norm of the tensors that these are samples of."""
        return tf.add_n(
            [
                tf.reduce_sum(tf.square(t))
                * (size / max(1, t.shape.num_elements()))
                for t, size in zip(tensors, self._sizes, strict=True)
            ]
        )
