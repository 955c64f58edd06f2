"""A residual network with batch normalization on tiles of photographs."""

import keras
from keras import layers

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY


def _block(x, filters, strides):
    shortcut = x
    if strides > 1:
        shortcut = layers.Conv2D(filters, 1, strides=strides)(x)
    for stride in (strides, 1):
        x = layers.Conv2D(
            filters, 3, strides=stride, padding="same", use_bias=False
        )(x)
        x = layers.BatchNormalization()(x)
        if stride == strides:
            x = layers.ReLU()(x)
    return layers.ReLU()(x + shortcut)


def model():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = _block(x, 16, 1)
    x = _block(x, 32, 2)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(8, name="head")(x))


TASK = SuiteTask(
    name="resnet",
    kind="ResNet with batch norm, tiles of photographs",
    data=data.tiles,
    model=model,
    loss=CROSS_ENTROPY,
    metric="accuracy",
    num_steps=1000,
    batch_size=32,
)
