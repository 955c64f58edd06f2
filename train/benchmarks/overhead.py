"""What share of a train step the optimizer takes."""

import keras
import numpy as np
import tensorflow as tf

import keras_l2l
from keras_l2l import rules
from train.benchmarks import timing


def _mlp():
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((784,)), *layers])


def _conv_net():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


def _transformer():
    inputs = x = keras.Input((64, 64))
    for _ in range(2):
        attention = keras.layers.MultiHeadAttention(4, 16)(x, x)
        x = keras.layers.LayerNormalization()(x + attention)
        hidden = keras.layers.Dense(256, "gelu")(x)
        x = keras.layers.LayerNormalization()(
            x + keras.layers.Dense(64)(hidden)
        )
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs)


MODELS = {"mlp": _mlp, "conv net": _conv_net, "transformer": _transformer}
OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "default": keras_l2l.LearnedOptimizer,
    "lstm": lambda: keras_l2l.LearnedOptimizer(rule=rules.CoordinatewiseLSTM()),
    "rnnprop": lambda: keras_l2l.LearnedOptimizer(rule=rules.RNNprop()),
}


def overhead(repeats):
    """Returns rows of a train step's time, by model, batch and optimizer."""
    rows = []
    for name, make in MODELS.items():
        for batch_size in (32, 128):
            steps = {
                optimizer: _train_step(make(), batch_size, make_optimizer)
                for optimizer, make_optimizer in OPTIMIZERS.items()
            }
            seconds = timing.alternate(steps, repeats)
            rows += [
                {
                    "model": name,
                    "parameters": make().count_params(),
                    "batch": batch_size,
                    "optimizer": optimizer,
                    "step_ms": 1e3 * seconds[optimizer],
                    "share_of_step": 1 - seconds["sgd"] / seconds[optimizer],
                }
                for optimizer in steps
            ]
    return rows


def _train_step(model, batch_size, make_optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make_optimizer(), loss)
    rng = np.random.default_rng(0)
    x = rng.random((batch_size, *model.input_shape[1:]), "float32")
    batch = x, rng.integers(0, 10, batch_size)
    batches = iter(tf.data.Dataset.from_tensors(batch).cache().repeat())
    model.make_train_function()
    model.train_function(batches)

    def run():
        model.train_function(batches)
        model.trainable_variables[-1].numpy()  # Waits.

    return run
