"""Rules that update one optimizee tensor after the other."""

from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import moments
from keras_l2l.rules import vectors


class TensorwiseRule(base.UpdateRule):
    """A rule that treats every tensor alike, each with its own state.

    Subclasses implement `init_tensor_state` and `tensor_step`, and call
    `step_tensors` from `step`.
    """

    def init_state(self, shapes):
        return [self.init_tensor_state(shape) for shape in shapes]

    def init_tensor_state(self, shape):
        """Returns the state of one optimizee tensor, a nest of tensors."""
        raise NotImplementedError

    def tensor_step(self, meta_params, gradient, param, state, shared):
        """Computes the update of one optimizee tensor.

        Args:
            meta_params: As from `init_meta_params`.
            gradient: Tensor, of not too large numbers.
            param: Tensor of that shape, or `None`.
            state: As from `init_tensor_state`.
            shared: What `step_tensors` was given.

        Returns:
            Tuple `(update, state)`.
        """
        raise NotImplementedError

    def where(self, mask, new, old):
        """Returns a tensor's state, the old one where not masked."""
        return vectors.where(mask, new, old)

    def step_tensors(self, meta_params, inputs, states, shared):
        """Returns a list of updates and one of states, of all tensors."""
        masks = inputs.mask or [None] * len(inputs.gradients)
        updates, after = [], []
        for gradient, param, mask, before in zip(
            inputs.gradients, inputs.params, masks, states, strict=True
        ):
            update, state = self.masked_tensor_step(
                meta_params, gradient, param, mask, before, shared
            )
            updates.append(update)
            after.append(state)
        return updates, after

    def masked_tensor_step(
        self, meta_params, gradient, param, mask, before, shared
    ):
        """Computes `tensor_step` where the mask is True; the rest stays."""
        if mask is not None:
            gradient = ops.where(mask, gradient, ops.zeros_like(gradient))
        largest = moments.LARGEST_GRADIENT
        gradient = ops.clip(gradient, -largest, largest)
        update, state = self.tensor_step(
            meta_params, gradient, param, before, shared
        )
        if mask is not None:
            update = ops.where(mask, update, ops.zeros_like(update))
            state = self.where(mask, state, before)
        return update, state
