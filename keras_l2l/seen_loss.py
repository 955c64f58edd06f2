"""Optimizers that see the loss of each training step."""

import keras
from keras import ops

from keras_l2l import backends
from keras_l2l import restoring


class LossSeeingOptimizer(restoring.RestorableOptimizer):
    """An optimizer that keeps the loss until the update that it is for.

    Keras' trainers call `scale_loss` in every training step, on the loss whose
    gradients they apply next; in a custom loop the user does.

    Attributes:
        rule: `UpdateRule`, whose `uses_loss` tells whether it is of use, and
            `needs_loss` whether it must be there.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._seen_loss = None

    def scale_loss(self, loss):
        self.see_loss(loss)
        return super().scale_loss(loss)

    def see_loss(self, loss):
        """Keeps a loss, scalar tensor, that is not scaled.

        Of replicas it is the sum, as of their gradients.
        """
        # In JAX it is of the trace that computes the gradients, and may not be
        # used in the update, which is of another.
        if not self.rule.uses_loss or keras.backend.backend() == "jax":
            return
        loss = ops.stop_gradient(ops.convert_to_tensor(loss))
        loss = backends.sum_over_replicas(loss)
        self._seen_loss = ops.cast(loss, "float32")

    def take_loss(self):
        """Returns the loss that was seen last, once; `None` if there is none.

        Raises:
            ValueError: if none was since the last update, and the rule can't
                do without.
        """
        loss, self._seen_loss = self._seen_loss, None
        if loss is None and self.rule.needs_loss:
            if keras.backend.backend() == "jax":
                raise ValueError(
                    "The rule of this optimizer must see the loss, which an "
                    "optimizer cannot see in JAX. Received: the backend jax. "
                    "Set KERAS_BACKEND to tensorflow or torch."
                )
            raise ValueError(
                "The rule of this optimizer must see the loss of each step. "
                "Received: none. In a custom loop, after computing the loss, "
                "add: loss = optimizer.scale_loss(loss)"
            )
        return loss


def _show_inner_optimizer(optimizer_class):
    """Lets `LossScaleOptimizer` show the loss to the optimizer in it.

    It calls nothing of that one where it scales the loss, and Keras' trainers
    make one by themselves under the policy `mixed_float16`.
    """
    scale_loss = optimizer_class.scale_loss

    def scale_and_show(self, loss):
        inner = self.inner_optimizer
        if isinstance(inner, LossSeeingOptimizer):
            inner.see_loss(loss)
        return scale_loss(self, loss)

    optimizer_class.scale_loss = scale_and_show


_show_inner_optimizer(keras.optimizers.LossScaleOptimizer)
