"""A convolutional autoencoder of tiles of photographs."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask


def examples():
    return tuple((x, x) for x, _ in data.tiles())


def model():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, 2, padding="same", activation="gelu"),
            layers.Conv2D(32, 3, 2, padding="same", activation="gelu"),
            layers.Flatten(),
            layers.Dense(24),
            layers.Dense(512, activation="gelu"),
            layers.Reshape((4, 4, 32)),
            layers.Conv2DTranspose(16, 3, 2, padding="same", activation="gelu"),
            layers.Conv2DTranspose(3, 3, 2, padding="same", name="head"),
        ]
    )


TASK = SuiteTask(
    name="autoencoder",
    kind="convolutional autoencoder, tiles of photographs",
    data=examples,
    model=model,
    loss="mse",
    metric=None,
    num_steps=1000,
    batch_size=32,
)
