"""The stack of LSTMs that several rules share."""

import typing
from collections.abc import Callable

from keras import ops

from keras_l2l.rules import cells
from keras_l2l.rules import preprocessing
from keras_l2l.utils import checks


class LSTMStack:
    """Stack of LSTMs with a linear output.

    Args:
        units: Tuple of ints >= 1, the hidden units of each LSTM layer.
        output_scale: Positive float, factor on the output.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, units, output_scale):
        if not isinstance(units, (tuple, list)) or not units:
            raise ValueError(
                "`units` must be a non-empty tuple of ints, one per LSTM "
                f"layer. Received: units={units!r}. For one layer of 20 units "
                "pass units=(20,)."
            )
        self.units = tuple(checks.require_int("units", n) for n in units)
        self.output_scale = checks.require_positive(
            "output_scale", output_scale
        )

    def init_stack(
        self, inputs: int, outputs: int, seed: int
    ) -> dict[str, typing.Any]:
        """Returns fresh weights of a stack with these numbers of features."""
        weights = {}
        for layer, units in enumerate(self.units):
            weights[f"lstm_{layer}"] = cells.init_lstm(
                inputs, units, seed + layer
            )
            inputs = units
        weights["output"] = cells.init_dense(
            inputs, outputs, seed + len(self.units)
        )
        return weights

    def init_stack_state(self, n: int) -> dict[str, typing.Any]:
        """Returns the state of `n` columns: tensors `[units, n]`, nested."""
        return {
            f"lstm_{layer}": {
                "hidden": ops.zeros((units, n), dtype="float32"),
                "cell": ops.zeros((units, n), dtype="float32"),
            }
            for layer, units in enumerate(self.units)
        }

    def apply_stack(
        self,
        weights: typing.Any,
        features: typing.Any,
        state: typing.Any,
        share: Callable[[typing.Any], typing.Any] | None = None,
    ) -> tuple[typing.Any, dict[str, typing.Any]]:
        """Applies one step of the stack to each column.

        Args:
            weights: Nest as from `init_stack`.
            features: Tensor of shape `[inputs, n]`.
            state: Nest as from `init_stack_state`.
            share: Function that is applied to the outputs of each layer,
                `[units, n]`, or `None`.

        Returns:
            Tuple `(outputs, state)`, `outputs` of shape `[outputs, n]`.
        """
        outputs, new_state = features, {}
        for layer in range(len(self.units)):
            name = f"lstm_{layer}"
            outputs, cell = cells.lstm_step(
                outputs,
                (state[name]["hidden"], state[name]["cell"]),
                weights[name],
            )
            if share is not None:
                outputs = share(outputs)
            new_state[name] = {"hidden": outputs, "cell": cell}
        return cells.dense(outputs, weights["output"]), new_state

    def get_config(self):
        return {"units": list(self.units), "output_scale": self.output_scale}


class GradientLSTMStack(LSTMStack):
    """`LSTMStack` whose inputs are the paper's features of gradients.

    Args:
        units, output_scale: As for `LSTMStack`.
        preprocessing: `"log_and_sign"` or `None`, which feeds raw gradients.
        p: Positive float, see `keras_l2l.rules.preprocessing.log_and_sign`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, units, preprocessing, p, output_scale):
        super().__init__(units, output_scale)
        if preprocessing not in ("log_and_sign", None):
            raise ValueError(
                '`preprocessing` must be "log_and_sign" or None. Received: '
                f"preprocessing={preprocessing!r}"
            )
        self.preprocessing = preprocessing
        self.p = checks.require_positive("p", p)

    @property
    def features_per_gradient(self) -> int:
        return 1 if self.preprocessing is None else 2

    def features(self, gradient: typing.Any) -> typing.Any:
        """Returns `[k * features_per_gradient, n]` of gradients `[k, n]`."""
        if self.preprocessing is None:
            return gradient
        features = preprocessing.log_and_sign(gradient, self.p)
        # The number of columns is unknown in an exported rule.
        return ops.reshape(features, (2 * gradient.shape[0], -1))

    def get_config(self):
        return {
            **super().get_config(),
            "preprocessing": self.preprocessing,
            "p": self.p,
        }
