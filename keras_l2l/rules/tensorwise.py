"""Rules that update each tensor by itself."""

import typing

from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import moments
from keras_l2l.rules import vectors


class TensorwiseRule(base.UpdateRule):
    """Rule that treats every tensor alike, each with its own state.

    Subclasses implement `init_tensor_state` and `tensor_step`, and call
    `step_tensors` from `step`.
    """

    def init_state(self, shapes):
        return [self.init_tensor_state(shape) for shape in shapes]

    def init_tensor_state(self, shape: tuple[int, ...]) -> typing.Any:
        """Returns the state of one optimizee tensor, a nest of tensors."""
        raise NotImplementedError

    def tensor_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        state: typing.Any,
        shared: typing.Any,
    ) -> tuple[typing.Any, typing.Any]:
        """Computes the update of one optimizee tensor.

        Args:
            meta_params: As from `init_meta_params`.
            gradient: Tensor, clipped to `[-1000, 1000]`.
            param: Tensor of the same shape, or `None`.
            state: As from `init_tensor_state`.
            shared: As passed to `step_tensors`.

        Returns:
            Tuple `(update, state)`.
        """
        raise NotImplementedError

    def where(
        self, mask: typing.Any, new: typing.Any, old: typing.Any
    ) -> typing.Any:
        """Returns the new state where `mask` is True, and the old elsewhere."""
        return vectors.where(mask, new, old)

    def step_tensors(
        self,
        meta_params: typing.Any,
        inputs: base.StepInputs,
        states: list[typing.Any],
        shared: typing.Any,
    ) -> tuple[list[typing.Any], list[typing.Any]]:
        """Returns a list of updates and a list of states, for all tensors."""
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
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        mask: typing.Any,
        before: typing.Any,
        shared: typing.Any,
    ) -> tuple[typing.Any, typing.Any]:
        """Computes `tensor_step`; keeps what `mask` excludes."""
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
