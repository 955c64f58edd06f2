"""The paper's update rule: one small LSTM, applied to every coordinate."""

import keras
from keras import ops

from keras_l2l import cells
from keras_l2l import checks
from keras_l2l import preprocess
from keras_l2l.rules import base


@keras.saving.register_keras_serializable(package="keras_l2l")
class CoordinatewiseLSTM(base.CoordinatewiseRule):
    """A stack of LSTMs with a linear output, shared by all coordinates.

    ```
    features = log_and_sign(gradient, p)      (or the gradient itself)
    hidden, cell = lstm_step(features, (hidden, cell))      for each layer
    update = output_scale * (kernel.T @ hidden + bias)
    ```

    With the default arguments the rule has 5,141 meta-parameters.

    Args:
        units: Tuple of ints >= 1, the hidden units of each LSTM layer.
            Defaults to `(20, 20)`.
        preprocessing: `"log_and_sign"` (the default) or `None`, which feeds
            the raw gradient (the paper's quadratics).
        p: Positive float, see `keras_l2l.preprocess.log_and_sign`. Defaults
            to 10.0. Unused when `preprocessing` is `None`.
        output_scale: Positive float, factor on the linear output. Defaults to
            0.1, the paper's for neural networks.

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
        units=(20, 20),
        preprocessing="log_and_sign",
        p=10.0,
        output_scale=0.1,
    ):
        if not isinstance(units, (tuple, list)) or not units:
            raise ValueError(
                "`units` must be a non-empty tuple of ints, one per LSTM "
                f"layer. Received: units={units!r}. For one layer of 20 units "
                "pass units=(20,)."
            )
        for value in units:
            checks.require_int("units", value)
        if preprocessing not in ("log_and_sign", None):
            raise ValueError(
                '`preprocessing` must be "log_and_sign" or None. Received: '
                f"preprocessing={preprocessing!r}"
            )
        checks.require_positive("p", p)
        checks.require_positive("output_scale", output_scale)
        self.units = tuple(units)
        self.preprocessing = preprocessing
        self.p = p
        self.output_scale = output_scale

    def init_meta_params(self, seed):
        meta_params = {}
        size = 1 if self.preprocessing is None else 2
        for layer, units in enumerate(self.units):
            meta_params[f"lstm_{layer}"] = cells.init_lstm(
                size, units, seed + layer
            )
            size = units
        meta_params["output"] = cells.init_dense(
            size, 1, seed + len(self.units)
        )
        return meta_params

    def init_coordinate_state(self, n):
        return {
            f"lstm_{layer}": {
                "hidden": ops.zeros((units, n), dtype="float32"),
                "cell": ops.zeros((units, n), dtype="float32"),
            }
            for layer, units in enumerate(self.units)
        }

    def coordinate_step(self, meta_params, gradient, state, iteration):
        if self.preprocessing is None:
            outputs = ops.expand_dims(gradient, 0)
        else:
            outputs = preprocess.log_and_sign(gradient, self.p)
        new_state = {}
        for layer in range(len(self.units)):
            name = f"lstm_{layer}"
            outputs, cell = cells.lstm_step(
                outputs,
                (state[name]["hidden"], state[name]["cell"]),
                meta_params[name],
            )
            new_state[name] = {"hidden": outputs, "cell": cell}
        update = cells.dense(outputs, meta_params["output"])
        return self.output_scale * ops.squeeze(update, 0), new_state

    def get_config(self):
        return {
            "units": list(self.units),
            "preprocessing": self.preprocessing,
            "p": self.p,
            "output_scale": self.output_scale,
        }
