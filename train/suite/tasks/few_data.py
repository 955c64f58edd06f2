"""Convolutions on the characters of only 400 names, in eight languages."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY

_LANGUAGES = ("da", "ga", "sk", "sl", "sq", "eu", "is", "vi")
_LENGTH = 24


def examples():
    x, y, _ = data.names_by_language(_LANGUAGES, _LENGTH)
    return data.split(x, y, 400, 2000)


def model():
    *_, characters = data.names_by_language(_LANGUAGES, _LENGTH)
    return keras.Sequential(
        [
            keras.Input((_LENGTH,), dtype="int32"),
            layers.Embedding(characters, 32),
            layers.Conv1D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(64, 5, padding="same", activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(len(_LANGUAGES), name="head"),
        ]
    )


TASK = SuiteTask(
    name="few_data",
    kind="embedding and convolutions, 400 names",
    data=examples,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1500,
    batch_size=32,
    packages=("babel",),
)
