"""The paper's update rule: one small LSTM, applied to every coordinate."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import lstm_stack


@keras.saving.register_keras_serializable(package="keras_l2l")
class CoordinatewiseLSTM(lstm_stack.GradientLSTMStack, base.CoordinatewiseRule):
    """Stack of LSTMs with a linear output, shared by all coordinates.

    ```
    features = log_and_sign(gradient, p)      or the gradient itself
    hidden, cell = lstm_step(features, (hidden, cell))      for each layer
    update = output_scale * (kernel.T @ hidden + bias)
    ```

    With the default arguments the rule has 5,141 meta-parameters.

    Args:
        units: Tuple of ints >= 1, the hidden units of each LSTM layer.
            Defaults to `(20, 20)`.
        preprocessing: `"log_and_sign"` (the default) or `None`, which feeds
            the raw gradient (the paper's quadratics).
        p: Positive float, see `keras_l2l.rules.preprocessing.log_and_sign`.
            Defaults to 10.0. Unused when `preprocessing` is `None`.
        output_scale: Positive float, factor on the linear output. Defaults to
            0.1, the paper's value for neural networks.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
    >>> rule = keras_l2l.CoordinatewiseLSTM()
    >>> meta_params = rule.init_meta_params(seed=0)
    >>> keras_l2l.rules.count_params(meta_params)
    5141

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 2.1 and
        appendix A.
    """

    rounds_state = True

    def __init__(
        self,
        units: Sequence[int] = (20, 20),
        preprocessing: str | None = "log_and_sign",
        p: float = 10.0,
        output_scale: float = 0.1,
    ) -> None:
        super().__init__(units, preprocessing, p, output_scale)

    def init_meta_params(self, seed):
        return self.init_stack(self.features_per_gradient, 1, seed)

    def init_coordinate_state(self, n):
        return self.init_stack_state(n)

    def coordinate_step(self, meta_params, gradient, state, iteration):
        features = self.features(ops.expand_dims(gradient, 0))
        update, state = self.apply_stack(meta_params, features, state)
        return self.output_scale * ops.squeeze(update, 0), state
