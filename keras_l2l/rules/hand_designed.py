"""Hand-designed optimizers as rules: fallbacks, and oracles of the tests.

Their hyperparameters are meta-parameters, so they can be meta-trained too.
"""

import math

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.utils import checks

# At 1 an average would never forget, and above it would grow.
_BELOW = {"momentum": 1, "beta_1": 1, "beta_2": 1}


class _HandDesigned(base.CoordinatewiseRule):
    """Rule whose meta-parameters are its hyperparameters, by name."""

    rests_without_gradient = True

    def __init__(self, **hyperparameters):
        self._hyperparameters = {
            name: checks.require_number(name, value, _BELOW.get(name, math.inf))
            for name, value in hyperparameters.items()
        }

    def init_meta_params(self, seed):
        return {
            name: ops.convert_to_tensor(value, "float32")
            for name, value in self._hyperparameters.items()
        }

    def get_config(self):
        return dict(self._hyperparameters)


@keras.saving.register_keras_serializable(package="keras_l2l")
class SGD(_HandDesigned):
    """Gradient descent: `update = -learning_rate * gradient`.

    Args:
        learning_rate: Float >= 0, the meta-parameter's initial value.
            Defaults to 0.01.
    """

    def __init__(self, learning_rate: float = 0.01) -> None:
        super().__init__(learning_rate=learning_rate)

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        return -meta_params["learning_rate"] * gradient, state


@keras.saving.register_keras_serializable(package="keras_l2l")
class Momentum(_HandDesigned):
    """Gradient descent with momentum, like `keras.optimizers.SGD`.

    ```
    velocity = momentum * velocity - learning_rate * gradient
    update = velocity
    ```

    Args:
        learning_rate: Float >= 0. Defaults to 0.01.
        momentum: Float in [0, 1). Defaults to 0.9.
    """

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.9
    ) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum)

    def init_coordinate_state(self, n):
        return {"velocity": ops.zeros((n,), dtype="float32")}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        velocity = (
            meta_params["momentum"] * state["velocity"]
            - meta_params["learning_rate"] * gradient
        )
        return velocity, {"velocity": velocity}


@keras.saving.register_keras_serializable(package="keras_l2l")
class Adam(_HandDesigned):
    """Adam with bias correction, like `keras.optimizers.Adam`.

    ```
    m = beta_1 * m + (1 - beta_1) * gradient
    v = beta_2 * v + (1 - beta_2) * gradient ** 2
    alpha = learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)
    update = -alpha * m / (sqrt(v) + epsilon)           t = iteration + 1
    ```

    Args:
        learning_rate: Float >= 0. Defaults to 0.001.
        beta_1: Float in [0, 1). Defaults to 0.9.
        beta_2: Float in [0, 1). Defaults to 0.999.
        epsilon: Float >= 0. Defaults to 1e-7.

    Reference:
        Kingma and Ba, 2014 (arXiv 1412.6980), section 2.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
        )

    def init_coordinate_state(self, n):
        return {
            "m": ops.zeros((n,), dtype="float32"),
            "v": ops.zeros((n,), dtype="float32"),
        }

    def coordinate_step(self, meta_params, gradient, state, iteration):
        # Meta-training may move them out of their ranges.
        beta_1, beta_2 = (
            ops.clip(meta_params[name], 0.0, _BELOW_1)
            for name in ("beta_1", "beta_2")
        )
        epsilon = ops.maximum(meta_params["epsilon"], _ABOVE_0)
        m = beta_1 * state["m"] + (1 - beta_1) * gradient
        v = beta_2 * state["v"] + (1 - beta_2) * ops.square(gradient)
        t = ops.cast(iteration, gradient.dtype) + 1
        alpha = (
            meta_params["learning_rate"]
            * ops.sqrt(1 - ops.power(beta_2, t))
            / (1 - ops.power(beta_1, t))
        )
        update = -alpha * m / (_safe_sqrt(v) + epsilon)
        return update, {"m": m, "v": v}


# In float32 neither 1 - beta ** t nor the denominator may become 0.
_BELOW_1, _ABOVE_0 = 1 - 1e-6, 1e-12


def _safe_sqrt(x):
    """Returns sqrt(x) with derivative 0 instead of infinity at 0."""
    positive = x > 0
    root = ops.sqrt(ops.where(positive, x, ops.ones_like(x)))
    return ops.where(positive, root, ops.zeros_like(x))
