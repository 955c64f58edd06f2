"""A transformer that tells the language of a name in CLDR."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY
from train.suite.tasks.layers import Positions
from train.suite.tasks.layers import transformer_block

_LANGUAGES = (
    *("en", "fr", "de", "es", "it", "pt", "nl", "sv", "fi", "et"),
    *("lv", "lt", "pl", "cs", "hr", "hu", "ro", "tr", "id", "cy"),
)
_LENGTH = 24


def examples():
    x, y, _ = data.names_by_language(_LANGUAGES, _LENGTH)
    return data.split(x, y, len(x) - 1500, 1500)


def model():
    *_, characters = data.names_by_language(_LANGUAGES, _LENGTH)
    inputs = keras.Input((_LENGTH,), dtype="int32")
    x = Positions()(layers.Embedding(characters, 48)(inputs))
    for _ in range(2):
        x = transformer_block(x, heads=4, dropout=0.1)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(len(_LANGUAGES), name="head")(x))


TASK = SuiteTask(
    name="text_transformer",
    kind="text transformer, language of a name",
    data=examples,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1200,
    batch_size=32,
    packages=("babel",),
)
