"""The paper's synthetic optimizees: random quadratic functions."""

import typing

import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.utils import checks


class Quadratics(base.TaskFamily):
    """Family of quadratics `f(params) = ||W params - y||^2`.

    W, y and the initial parameters are IID standard Gaussian, new for every
    seed.

    Args:
        dimension: Int >= 1, the number of parameters. Defaults to 10.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.1.
    """

    name = "quadratics"

    def __init__(self, dimension: int = 10) -> None:
        self.dimension = checks.require_int("dimension", dimension)

    def sample(self, seed):
        n = self.dimension
        return Quadratic(
            _normal([n, n], base.random_key(seed, 2)),
            _normal([n], base.random_key(seed, 3)),
        )

    def get_config(self):
        return {"dimension": self.dimension}


class Quadratic(base.Task):
    """One quadratic `f(params) = ||W params - y||^2`.

    Args:
        w: Float tensor of shape `[m, n]`.
        y: Float tensor of shape `[m]`.
    """

    name = "quadratic"

    def __init__(self, w: typing.Any, y: typing.Any) -> None:
        self.w = w
        self.y = y

    def init_params(self, seed):
        n = self.w.shape[1]
        key = base.random_key(seed, 0)
        return [_normal([n], key, self.w.dtype)]

    def batches(self, split, seed):
        return lambda step: ()

    def loss(self, params, batch):
        residual = tf.linalg.matvec(self.w, params[0]) - self.y
        return tf.reduce_sum(tf.square(residual))

    def get_config(self):
        return {"w": self.w.numpy().tolist(), "y": self.y.numpy().tolist()}


def _normal(shape, key, dtype=tf.float32):
    return tf.random.stateless_normal(shape, key, dtype=dtype, alg=base.RANDOM)
