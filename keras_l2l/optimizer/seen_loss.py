"""Optimizers that see the loss of each training step."""

import keras
from keras import ops

from keras_l2l.optimizer import saving
from keras_l2l.utils import backends


class LossSeeingOptimizer(saving.RestorableOptimizer):
    """An optimizer that keeps the loss until the update that it is for.

    Keras' trainers call `scale_loss` in every training step, on the loss whose
    gradients they apply next; in a custom loop the user does.

    Args:
        rule: `UpdateRule`, whose `uses_loss` tells whether the loss is of use,
            and `needs_loss` whether it must be there.
    """

    def __init__(self, rule, **kwargs):
        super().__init__(**kwargs)
        self.rule = rule
        self._losses = None
        if rule.uses_loss:
            self._losses = _Losses(self.gradient_accumulation_steps)
        self._loss = None

    def scale_loss(self, loss):
        return super().scale_loss(self.see_loss(loss))

    def see_loss(self, loss):
        """Keeps a loss, scalar tensor, that is not scaled.

        Of replicas it is the sum, as of their gradients.

        Returns:
            The loss, which is what must be differentiated.
        """
        if self._losses is None:
            return loss
        return backends.shown(loss, self._losses.show)

    def apply(self, grads, trainable_variables=None):
        if self._losses is not None and len(grads):
            self._loss = self._losses.take(grads, self._iterations)
            self._require_loss()
        super().apply(grads, trainable_variables)
        self._loss = None

    def _require_loss(self):
        if self._loss is not None or not self.rule.needs_loss:
            return
        if not self._losses.can_see:
            raise ValueError(
                "The rule of this optimizer must see the loss, which an "
                "optimizer with `gradient_accumulation_steps` cannot see in "
                "JAX. Leave that argument out, or set KERAS_BACKEND to "
                "tensorflow or torch."
            )
        raise ValueError(
            "The rule of this optimizer must see the loss of each step. "
            "Received: none. In a custom loop, after computing the loss, "
            "add: loss = optimizer.scale_loss(loss)"
        )


class _Losses:
    """The loss that was shown last, and the sum of those of micro-batches.

    Args:
        accumulated: Int, how many steps gradients are accumulated for, or
            `None`.

    Attributes:
        can_see: Bool, whether there is a loss to be had on this backend.
    """

    def __init__(self, accumulated):
        self._accumulated = accumulated
        # A sum would have to pass from one compiled step to the next.
        self.can_see = keras.backend.backend() != "jax" or not accumulated
        # Pairs of a sum of losses and of how many: 1 at most, and all.
        self._last = backends.Holder((2,))
        self._sum = None
        if accumulated:
            self._sum = backends.Holder((2,))
            # A graph must not find that there is none yet.
            self._sum.write(ops.zeros((2,)))

    def show(self, loss):
        """Keeps a loss, scalar tensor."""
        if not self.can_see:
            return
        loss = ops.reshape(ops.stop_gradient(loss), ())
        loss = ops.cast(backends.sum_over_replicas(loss), "float32")
        self._last.write(ops.stack([loss, ops.ones_like(loss)]))

    def take(self, gradients, iterations):
        """Returns the loss that these gradients are of, once.

        Args:
            gradients: List of tensors or `None`.
            iterations: Int variable, calls of `apply` so far.

        Returns:
            Float32 scalar tensor: of accumulated gradients the mean. `None` if
            no loss has been shown since.

        Raises:
            ValueError: if it was shown elsewhere than the gradients are used.
        """
        last = self._last.read()
        if last is None:
            return None
        self._last.clear()
        if not backends.belong_together(last, gradients):
            raise ValueError(
                "The loss must be shown in the function that applies the "
                "gradients, where JAX compiles either of them. Received: one "
                "from elsewhere. Call optimizer.scale_loss(loss) where "
                "optimizer.apply is called."
            )
        if self._sum is not None:
            last = self._add(last, ops.equal(iterations % self._accumulated, 0))
        return last[0] / last[1]

    def _add(self, last, starts):
        """Returns the sum with one more, from 0 on if it `starts`."""
        before = self._sum.read()
        if before is not None:
            last = last + ops.where(starts, ops.zeros_like(before), before)
        self._sum.write(last)
        return last


def _show_inner_optimizer(optimizer_class):
    """Lets `LossScaleOptimizer` show the loss to the optimizer in it.

    It calls nothing of that one where it scales the loss, and Keras' trainers
    make one by themselves under the policy `mixed_float16`.
    """
    scale_loss = optimizer_class.scale_loss

    def scale_and_show(self, loss):
        inner = self.inner_optimizer
        if isinstance(inner, LossSeeingOptimizer):
            loss = inner.see_loss(loss)
        return scale_loss(self, loss)

    optimizer_class.scale_loss = scale_and_show


_show_inner_optimizer(keras.optimizers.LossScaleOptimizer)
