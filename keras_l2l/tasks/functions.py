"""Analytic functions that are known to be hard to minimize."""

import math

import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.utils import checks


def _rosenbrock(x):
    """Curved valley, with the minimum 0 at (1, 1, ...)."""
    valley = tf.square(x[1:] - tf.square(x[:-1]))
    return tf.reduce_sum(100 * valley + tf.square(1 - x[:-1]))


def _rastrigin(x):
    """Bowl with a local minimum at each integer, and the minimum 0 at 0."""
    waves = 1 - tf.cos(2 * math.pi * x)
    return tf.reduce_sum(tf.square(x) + 10 * waves)


def _ackley(x):
    """Plain with many local minima and a funnel, with the minimum 0 at 0."""
    # The constant keeps the derivative of the root finite at 0.
    distance = tf.sqrt(tf.reduce_mean(tf.square(x)) + 1e-12)
    waves = tf.reduce_mean(tf.cos(2 * math.pi * x))
    return 20 - 20 * tf.exp(-0.2 * distance) + math.e - tf.exp(waves)


def _styblinski_tang(x):
    """Two valleys along each axis, with the minimum 0 at -2.903534."""
    terms = x**4 - 16 * tf.square(x) + 5 * x
    return tf.reduce_sum(terms / 2 + 39.16616570377142)


# Functions of one vector, with the minimum 0.
FUNCTIONS = {
    "rosenbrock": _rosenbrock,
    "rastrigin": _rastrigin,
    "ackley": _ackley,
    "styblinski_tang": _styblinski_tang,
}


class AnalyticFunctions(base.TaskFamily):
    """Family of one analytic function, shifted and scaled along each axis.

    ```
    loss(params) = function(scale * (params - shift))
    shift ~ normal(0, 1),  scale ~ exp(uniform(-1, 1)),  params ~ normal(0, 1)
    ```

    Args:
        function: One of `FUNCTIONS`. Defaults to `"rosenbrock"`.
        dimension: Int >= 2, the number of parameters. Defaults to 10.

    Raises:
        ValueError: if there is no such function, or the dimension is too low.
    """

    def __init__(
        self, function: str = "rosenbrock", dimension: int = 10
    ) -> None:
        if not isinstance(function, str) or function not in FUNCTIONS:
            raise ValueError(
                f"`function` must be one of {', '.join(FUNCTIONS)}. Received: "
                f"function={checks.shown(function)}"
            )
        dimension = checks.require_int("dimension", dimension, 2)
        self.function = function
        self.dimension = dimension
        self.name = f"{function}_{dimension}"

    def sample(self, seed):
        shape = [self.dimension]
        shift = tf.random.stateless_normal(
            shape, base.random_key(seed, 2), alg=base.RANDOM
        )
        scale = tf.random.stateless_uniform(
            shape, base.random_key(seed, 3), -1.0, 1.0, alg=base.RANDOM
        )
        return _Moved(self, shift, tf.exp(scale))

    def get_config(self):
        return {"function": self.function, "dimension": self.dimension}


class _Moved(base.Task):
    def __init__(self, family, shift, scale):
        self.name = family.name
        self._family = family
        self._shift, self._scale = shift, scale

    def init_params(self, seed):
        key = base.random_key(seed, 0)
        shape = [self._family.dimension]
        return [tf.random.stateless_normal(shape, key, alg=base.RANDOM)]

    def batches(self, split, seed):
        return lambda step: ()

    def loss(self, params, batch):
        (x,) = params
        dtype = x.dtype
        x = tf.cast(self._scale, dtype) * (x - tf.cast(self._shift, dtype))
        return FUNCTIONS[self._family.function](x)

    def get_config(self):
        return self._family.get_config()
