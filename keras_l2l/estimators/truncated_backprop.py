"""Truncated backpropagation through time."""

import dataclasses
import math

import tensorflow as tf

from keras_l2l.estimators import base
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.tasks.base import RANDOM
from keras_l2l.tasks.base import check_second_derivatives
from keras_l2l.utils import backends


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TruncatedBackprop(base.GradientEstimator):
    """The exact gradient of each unroll, ignoring what came before it.

    ```
    meta_loss = sum(loss_weights * losses), over the unroll
    meta_gradient = d meta_loss / d meta_params,   carry held constant
    ```

    Args:
        unroll_length, loss_weights, compile_unroll: See
            `keras_l2l.estimators.GradientEstimator`.
        second_derivatives: Bool, whether the gradients and the loss that the
            rule sees depend on the meta-parameters. The paper drops this.
        sampled_coordinates: Int, or `None` for all. The meta-gradient is
            estimated, without bias, from the updates of at most so many
            coordinates of each variable, drawn anew for each unroll. This
            takes less time and memory for large models. For rules that treat
            every coordinate by itself.

    Raises:
        ValueError: if an option is out of its range, or `sampled_coordinates`
            are asked for with `second_derivatives`. `bind` raises it, too, if
            TensorFlow gets the second derivatives of the task wrong, or the
            rule's coordinates can't be sampled.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 2.
    """

    name = "backprop"
    second_derivatives: bool = False
    sampled_coordinates: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.second_derivatives and self.sampled_coordinates is not None:
            raise ValueError(
                "`second_derivatives` must be False where coordinates are "
                "sampled: with them, each depends on all others. Received: "
                f"sampled_coordinates={self.sampled_coordinates}, "
                "second_derivatives=True."
            )

    def bind(self, rule, task, horizon):
        bound = super().bind(rule, task, horizon)
        if self.second_derivatives:
            check_second_derivatives(task.sample(0))
        if self.sampled_coordinates is not None:
            bound._check_sampled_coordinates()
        return bound

    def _check_sampled_coordinates(self):
        shapes = [tuple(v.shape) for v in self.task.variables()]
        backends.abstract(
            lambda: self.rule.take(
                self.rule.init_state(shapes),
                shapes,
                [tf.zeros([0], tf.int32) for _ in shapes],
            )
        )

    def _estimate(self, meta_params, episode, seed):
        task = self.task.sample(episode.seed)
        if self.sampled_coordinates is None:
            estimated = self._exact(task, meta_params, episode)
        else:
            estimated = self._sampled(task, meta_params, episode, seed)
        gradient, meta_loss, carry = estimated
        gradient = tf.nest.pack_sequence_as(meta_params, gradient)
        return gradient, meta_loss, episode._replace(carry=carry)

    def _exact(self, task, meta_params, episode):
        """Returns `(flat gradient, meta-loss, carry)`."""
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
                *self.told(task, episode),
            )
            auxiliary = self._auxiliary(carry.state)
        meta_loss, slopes = self._meta_loss.of(losses, episode.carry.iteration)
        gradient = tape.gradient(
            [losses, auxiliary],
            flat,
            output_gradients=[slopes, tf.ones_like(auxiliary)],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return gradient, meta_loss + tf.cast(auxiliary, losses.dtype), carry

    def _sampled(self, task, meta_params, episode, seed):
        """Returns what `_exact` does in expectation, from a sample.

        The gradients being constants, the meta-gradient is a sum over the
        coordinates: of d update / d meta_params at each step, times the
        gradients of all losses after it.
        """
        before = episode.carry
        shapes = [tuple(p.shape) for p in before.params]
        sizes = [math.prod(shape) for shape in shapes]
        coordinates = [
            self._sample(size, (seed, episode.seed, i))
            for i, size in enumerate(sizes)
        ]
        losses, carry, gradients = unroll_lib.unroll_and_record(
            self.rule,
            task,
            meta_params,
            before,
            task.batches("train", episode.seed),
            self.unroll_length,
            coordinates,
            *self.told(task, episode),
        )
        meta_loss, slopes = self._meta_loss.of(losses, before.iteration)
        upstream = [
            tf.cumsum(tf.cast(slopes[:, None], g.dtype) * g[1:], reverse=True)
            * (size / max(1, g.shape[1]))
            for g, size in zip(gradients, sizes, strict=True)
        ]
        state = self.rule.take(before.state, shapes, coordinates)
        seen = before.seen and unroll_lib.take(before.seen, coordinates)
        flat = tf.nest.flatten(meta_params)
        with tf.GradientTape() as tape:
            tape.watch(flat)
            updates, state = unroll_lib.updates_of(
                self.rule,
                meta_params,
                [g[:-1] for g in gradients],
                state,
                seen,
                before.iteration,
                *self.told(task, episode),
            )
            auxiliary = self._auxiliary(state)
        gradient = tape.gradient(
            [*updates, auxiliary],
            flat,
            output_gradients=[*upstream, tf.ones_like(auxiliary)],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return gradient, meta_loss + tf.cast(auxiliary, losses.dtype), carry

    def _auxiliary(self, state):
        """Returns another part of the meta-loss, for subclasses.

        Args:
            state: The rule's after the unroll, of the sampled coordinates
                where those are.

        Returns:
            Scalar tensor.
        """
        del state
        return tf.zeros([])

    def _sample(self, size, seed):
        """Returns coordinates of a tensor, all different."""
        if size <= self.sampled_coordinates:
            return tf.range(size)
        meta_step, episode_seed, tensor = seed
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([tf.cast(meta_step, tf.int64), episode_seed]),
            tensor,
            RANDOM,
        )
        order = tf.random.experimental.stateless_shuffle(
            tf.range(size), seed, RANDOM
        )
        return order[: self.sampled_coordinates]
