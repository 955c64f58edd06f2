"""The paper's LSTM with global averaging cells."""

import typing
from collections.abc import Sequence

import keras
from keras import ops

from keras_l2l.rules import lstm_stack
from keras_l2l.rules import vector_rule
from keras_l2l.rules import vectors
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class GlobalAveragingLSTM(lstm_stack.GradientLSTMStack, vector_rule.VectorRule):
    """`CoordinatewiseLSTM` with units that are averaged over coordinates.

    ```
    hidden, cell = lstm_step(features, (hidden, cell))      for each layer
    hidden[:averaged] = mean over all coordinates of hidden[:averaged]
    ```

    The rest is as in `CoordinatewiseLSTM`. The mean is over all variables of a
    model together. Coordinates that are not updated in a step do not count.

    Args:
        averaged: Int, number of averaged units in each layer. Defaults to 5.
        units, preprocessing, p, output_scale: As for `CoordinatewiseLSTM`.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), appendix B, which leaves
        open how many units are averaged.
    """

    rounds_state = True

    def __init__(
        self,
        averaged: int = 5,
        units: Sequence[int] = (20, 20),
        preprocessing: str | None = "log_and_sign",
        p: float = 10.0,
        output_scale: float = 0.1,
    ) -> None:
        super().__init__(units, preprocessing, p, output_scale)
        self.averaged = checks.require_int(
            "averaged", averaged, maximum=min(self.units)
        )

    def init_meta_params(self, seed):
        return self.init_stack(self.features_per_gradient, 1, seed)

    def init_vector_state(self, n):
        return self.init_stack_state(n)

    def vector_step(self, meta_params, gradient, state, iteration, mask):
        features = self.features(ops.expand_dims(gradient, 0))
        outputs, new_state = self.apply_averaging(
            meta_params, features, state, mask
        )
        return self.output_scale * ops.squeeze(outputs, 0), new_state

    def apply_averaging(
        self,
        weights: typing.Any,
        features: typing.Any,
        state: typing.Any,
        mask: typing.Any,
    ) -> tuple[typing.Any, typing.Any]:
        """Applies the stack with averaged units; keeps masked states."""
        outputs, new_state = self.apply_stack(
            weights, features, state, lambda hidden: self._average(hidden, mask)
        )
        return outputs, vectors.where(mask, new_state, state)

    def _average(self, hidden, mask):
        mine, own = hidden[: self.averaged], hidden[self.averaged :]
        if mask is None:
            mean = ops.mean(mine, axis=1, keepdims=True)
        else:
            present = ops.cast(mask, mine.dtype)
            mean = ops.sum(mine * present, axis=1, keepdims=True)
            mean = mean / ops.maximum(ops.sum(present), 1)
        return ops.concatenate([ops.broadcast_to(mean, mine.shape), own])

    def get_config(self):
        return {"averaged": self.averaged, **super().get_config()}
