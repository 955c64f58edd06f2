"""How long the first step of a model takes."""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_l2l
from train.benchmarks import timing

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "learned": keras_l2l.LearnedOptimizer,
}


def _mlp():
    return [keras.Input((784,)), keras.layers.Dense(128, "relu")]


def _conv():
    """26 variables, with those of the last layer."""
    layers = [keras.Input((16, 16, 3))]
    for filters in (8, 8, 16, 16, 32, 32):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return [*layers, keras.layers.GlobalAveragePooling2D()]


def _deep():
    """252 variables, with those of the last layer."""
    return [keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(125))]


NETWORKS = {"mlp": _mlp, "conv": _conv, "deep": _deep}
# What is measured: networks, and numbers of replicas.
MEASURED = [("mlp", 1), ("conv", 1), ("deep", 1), ("mlp", 2), ("conv", 2)]


def first_step(repeats):
    """Returns rows of the CPU seconds of a model's first step, and the next's.

    From making the model to the end of its first step, in a process that has
    imported everything; then the same once more.
    """
    rows = []
    for network, replicas in MEASURED:
        row = {"network": network, "replicas": replicas}
        for name in OPTIMIZERS:
            measured = [
                timing.in_fresh_process(_first_steps, network, name, replicas)
                for _ in range(repeats)
            ]
            first, second = map(statistics.median, zip(*measured, strict=True))
            row |= {f"{name}_first_s": first, f"{name}_second_s": second}
        rows.append(row)
    return rows


def _first_steps(network, optimizer, replicas):
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
        devices = [f"CPU:{i}" for i in range(replicas)]
        strategy = tf.distribute.MirroredStrategy(devices)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        with strategy.scope():
            model = keras.Sequential(
                [*NETWORKS[network](), keras.layers.Dense(10)]
            )
            model.compile(OPTIMIZERS[optimizer](), "mse")
        x = np.ones((16, *model.input_shape[1:]), "float32")
        model.train_on_batch(x, np.ones((16, 10), "float32"))
        seconds.append(time.process_time() - start)
    return seconds
