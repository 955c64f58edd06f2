"""A task that differs from episode to episode."""

import keras
import numpy as np

from keras_l2l import tasks

CLASSES = 5


def make_task(number=500, **arguments):
    """Returns a task of examples that are their own number."""
    x = np.arange(number, dtype="float32")[:, None]
    y = np.arange(number) % CLASSES

    def make_model():
        return keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Rescaling(1 / number),
                keras.layers.Dense(30),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(CLASSES),
            ]
        )

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    task = tasks.KerasModelTask(make_model, loss, (x, y), batch_size=32)
    return tasks.Varied(task, **{"fewest": 10, "classes": CLASSES, **arguments})
