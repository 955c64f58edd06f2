"""`RNNprop`: an LSTM on Adam's moments, with bounded updates."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import lstm_stack
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class RNNprop(lstm_stack.LSTMStack, base.CoordinatewiseRule):
    """Stack of LSTMs on gradients relative to their own moments.

    ```
    m = beta * m + (1 - beta) * gradient
    v = beta * v + (1 - beta) * gradient ** 2
    m_hat, v_hat = m / (1 - beta ** t), v / (1 - beta ** t)   t = iteration + 1
    features = (m_hat, gradient) / sqrt(v_hat + epsilon ** 2)
    hidden, cell = lstm_step(features, (hidden, cell))      for each layer
    update = output_scale * tanh(kernel.T @ hidden + bias)
    ```

    Except for `epsilon`, which is 1e-7, the features do not depend on the scale
    of the gradients.

    Args:
        units: Tuple of ints >= 1, the hidden units of each LSTM layer.
            Defaults to `(20, 20)`.
        beta: Float in [0, 1), the decay of both moments. Defaults to 0.95.
        output_scale: Positive float, the largest update of a coordinate.
            Defaults to 0.1.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Lv, Jiang and Li, 2017 (arXiv 1703.03633).
    """

    def __init__(
        self,
        units: Sequence[int] = (20, 20),
        beta: float = 0.95,
        output_scale: float = 0.1,
    ) -> None:
        super().__init__(units, output_scale)
        self.beta = checks.require_number("beta", beta, below=1)

    def init_meta_params(self, seed):
        return self.init_stack(2, 1, seed)

    def init_coordinate_state(self, n):
        return {
            "m": ops.zeros((n,), dtype="float32"),
            "v": ops.zeros((n,), dtype="float32"),
            **self.init_stack_state(n),
        }

    def coordinate_step(self, meta_params, gradient, state, iteration):
        m = self.beta * state["m"] + (1 - self.beta) * gradient
        v = self.beta * state["v"] + (1 - self.beta) * ops.square(gradient)
        t = ops.cast(iteration, gradient.dtype) + 1
        correction = 1 - ops.power(ops.convert_to_tensor(self.beta, t.dtype), t)
        # Added below the root, where its derivative is finite.
        scale = 1 / ops.sqrt(v / correction + _EPSILON**2)
        features = ops.stack([m / correction * scale, gradient * scale])
        update, stack_state = self.apply_stack(meta_params, features, state)
        update = self.output_scale * ops.tanh(ops.squeeze(update, 0))
        return update, {"m": m, "v": v, **stack_state}

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


# As in Keras' Adam.
_EPSILON = 1e-7
