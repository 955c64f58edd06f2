"""Optimizers that count the steps that NaN or infinite gradients spoil."""

import keras
from keras import ops

from keras_l2l.optimizer import update_hook
from keras_l2l.utils import backends


class SkipCountingOptimizer(update_hook.WholeModelOptimizer):
    """An optimizer that counts steps of which it skips something.

    Rules leave a coordinate as it is whose gradient is NaN or infinite.
    """

    def add_skipped_steps(self):
        """Makes the counter, a variable, as the last one in `build`."""
        self._skipped_steps = self.add_leaf(
            "skipped_steps", (), lambda: ops.zeros((), "int32"), "int"
        )

    def remark_of_skipped_steps(self):
        """Returns a list of what to tell of them: one string, or nothing."""
        if not self.built:
            return []
        steps = int(ops.convert_to_numpy(backends.read(self._skipped_steps)))
        if not steps:
            return []
        effect = "Coordinates of such a gradient were left as they are."
        if self.clipnorm:
            effect += (
                " With clipnorm, all others of their variable had a gradient "
                "of NaN, or of 0 if it was infinite."
            )
        elif self.global_clipnorm:
            effect = "With global_clipnorm, all of the model was left as it is."
        return [
            f"Steps with gradients that are NaN or infinite, so far: {steps}. "
            f"{effect}"
        ]

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.backend.backend() != "tensorflow":
            self._count(self._skipped_steps, grads)
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _distributed_tf_update_step(
        self, distribution, grads_and_vars, learning_rate
    ):
        distribution.extended.update(
            self._skipped_steps.value,
            self._count,
            args=([gradient for gradient, _ in grads_and_vars],),
            group=False,
        )
        super()._distributed_tf_update_step(
            distribution, grads_and_vars, learning_rate
        )

    def _count(self, counter, gradients):
        finite = [
            # Of a sparse gradient, the rows that are there.
            ops.all(ops.isfinite(g.values if hasattr(g, "dense_shape") else g))
            for g in gradients
            if g is not None
        ]
        skips = ops.logical_not(ops.all(ops.stack(finite)))
        self.assign_add(counter, ops.cast(skips, counter.dtype))
