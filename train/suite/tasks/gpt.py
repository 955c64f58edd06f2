"""A GPT on the characters of Python's standard library."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY
from train.suite.tasks.layers import Positions
from train.suite.tasks.layers import transformer_block

_LENGTH = 48


def examples():
    train, valid = data.source_code()
    return (
        data.windows(train, _LENGTH, 40_000),
        data.windows(valid, _LENGTH, 400),
    )


def model():
    inputs = keras.Input((_LENGTH,), dtype="int32")
    x = Positions()(layers.Embedding(data.VOCABULARY, 64)(inputs))
    for _ in range(3):
        x = transformer_block(x, heads=4, causal=True)
    x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(data.VOCABULARY, name="head")(x))


TASK = SuiteTask(
    name="gpt",
    kind="GPT, characters of source code",
    data=examples,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1000,
    batch_size=16,
    validation_batch_size=100,
)
