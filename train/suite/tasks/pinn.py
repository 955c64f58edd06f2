"""A network that solves Burgers' equation, from the equation alone.

u_t + u u_x = 0.05 u_xx for -1 < x < 1, 0 < t < 1 and u(x, 0) = -sin(pi x). The
loss is the mean square of the equation's residual, at points of validation that
were not trained on; the metric is the error of the solution.
"""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras import ops

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask

_VISCOSITY = 0.05


@functools.cache
def examples():
    rng = np.random.default_rng(data.SPLIT_SEED)
    points = rng.uniform((-1, 0), (1, 1), size=(12_000, 2))
    y = solution(points).astype("float32")
    return data.split(points.astype("float32"), y, 10_000, 2_000)


def solution(points):
    """Returns the solution at points `(x, t)`, by Cole and Hopf's formula."""
    x, t = points[:, :1], points[:, 1:]
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    y = x - np.sqrt(4 * _VISCOSITY * t) * nodes
    density = weights * np.exp(-np.cos(np.pi * y) / (2 * np.pi * _VISCOSITY))
    total = np.sum(density, axis=1, keepdims=True)
    return -np.sum(np.sin(np.pi * y) * density, axis=1, keepdims=True) / total


class PINN(keras.Model):
    """A network whose loss is the residual of the equation."""

    def __init__(self):
        super().__init__()
        self.network = keras.Sequential(
            [
                keras.Input((2,)),
                *(layers.Dense(32, activation="tanh") for _ in range(3)),
                layers.Dense(1, name="head"),
            ]
        )
        self.built = True

    def call(self, points):
        x, t = points[:, :1], points[:, 1:]
        # It fulfils the initial and the boundary conditions.
        free = self.network(points)
        return t * (1 - ops.square(x)) * free - ops.sin(np.pi * x)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        with tf.GradientTape() as second:
            second.watch(x)
            with tf.GradientTape() as first:
                first.watch(x)
                u = self(x)
            slopes = first.gradient(u, x)
            u_x, u_t = slopes[:, :1], slopes[:, 1:]
        u_xx = second.gradient(u_x, x)[:, :1]
        residual = u_t + u * u_x - _VISCOSITY * u_xx
        return ops.mean(ops.square(residual))


TASK = SuiteTask(
    name="pinn",
    kind="PINN, Burgers' equation",
    data=examples,
    model=PINN,
    loss=None,
    metric=keras.metrics.RootMeanSquaredError,
    num_steps=2000,
    batch_size=128,
    validation_batch_size=1000,
)
