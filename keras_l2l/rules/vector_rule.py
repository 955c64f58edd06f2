"""Rules that see all tensors of a step as one vector."""

import math
import typing

from keras import ops

from keras_l2l.rules import vectors
from keras_l2l.rules.base import UpdateRule


class VectorRule(UpdateRule):
    """Rule that sees all tensors as one vector, and may mix coordinates.

    Subclasses implement `init_vector_state` and `vector_step`.
    """

    uses_params = False

    def init_vector_state(self, n: int) -> typing.Any:
        """Returns the state of `n` coordinates, a nest of float tensors."""
        raise NotImplementedError

    def vector_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        state: typing.Any,
        iteration: typing.Any,
        mask: typing.Any,
    ) -> tuple[typing.Any, typing.Any]:
        """Computes the updates of `n` coordinates.

        Args:
            meta_params: Nest of tensors as from `init_meta_params`.
            gradient: Tensor of shape `[n]`, 0 where the mask is False.
            state: Nest of tensors as from `init_vector_state`.
            iteration: Scalar integer tensor, inner steps taken so far.
            mask: Bool tensor `[n]`, or `None`. Where it is False, the state
                of the coordinate must not change, and no other coordinate may
                depend on it.

        Returns:
            Tuple `(update, state)`, `update` of shape `[n]`.
        """
        raise NotImplementedError

    def init_state(self, shapes):
        return self.init_vector_state(sum(map(math.prod, shapes)))

    def step(self, meta_params, inputs, state):
        def run(gradient, mask):
            # A NaN must not enter the rule: it spreads by 0 * NaN.
            zeros = ops.zeros_like(gradient)
            update, new_state = self.vector_step(
                meta_params,
                vectors.where(mask, gradient, zeros),
                state,
                inputs.iteration,
                mask,
            )
            return vectors.where(mask, update, zeros), new_state

        return vectors.on_vectors(inputs, run)
