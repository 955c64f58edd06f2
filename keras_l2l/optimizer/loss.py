"""The loss of each training step, for rules that look at it."""

import keras
from keras import ops

from keras_l2l.utils import backends

_MISSING = (
    "The loss must be shown before each step, as it was before. Received: "
    "none. Call optimizer.scale_loss(loss) in the function that calls "
    "optimizer.apply."
)


class SeenLoss:
    """The loss of the gradients that are applied next.

    Keras' trainers call `scale_loss` in every training step, on the loss whose
    gradients they apply next; in a custom loop the user does.

    Args:
        rule: `UpdateRule`, whose `uses_loss` tells whether it looks at the
            loss, and `needs_loss` whether the loss must be there.
        accumulated: Int, how many steps gradients are accumulated for, or
            `None`.
    """

    def __init__(self, rule, accumulated):
        self._uses_loss, self._needs_loss = rule.uses_loss, rule.needs_loss
        if not rule.uses_loss:
            return
        self._accumulated = accumulated
        # A sum would have to pass from one compiled step to the next.
        self._can_see = keras.backend.backend() != "jax" or not accumulated
        # Pairs of a sum of losses and of how many: 1 at most, and all.
        self._last = backends.Holder((2,))
        self._sum = None
        if accumulated:
            self._sum = backends.Holder((2,))
            # A graph must not find that there is none yet.
            self._sum.write(ops.zeros((2,)))

    def see(self, loss):
        """Keeps a loss, scalar tensor, that is not scaled.

        Of replicas it keeps the sum, as of their gradients.

        Returns:
            The loss, which is what must be differentiated.
        """
        return backends.shown(loss, self._keep) if self._uses_loss else loss

    def _keep(self, loss):
        if not self._can_see:
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
            no loss has been shown since, or the rule does not look at it.

        Raises:
            ValueError: if it was shown elsewhere than the gradients are used,
                or was not shown to a rule that needs it.
            tf.errors.InvalidArgumentError: where a `tf.function` runs that was
                traced with a loss from elsewhere, and none was shown.
        """
        if not self._uses_loss or not len(gradients):
            return None
        loss = self._taken(gradients, iterations)
        if loss is not None or not self._needs_loss:
            return loss
        if not self._can_see:
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

    def _taken(self, gradients, iterations):
        last, is_certain = self._last.read(), self._last.is_of_this_graph()
        if last is None:
            return None
        if backends.is_tracing() and not is_certain:
            last = backends.checked(last, last[1] > 0, _MISSING)
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
