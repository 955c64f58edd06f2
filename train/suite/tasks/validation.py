"""The networks that the default's meta-parameters are chosen on, as tasks.

They are those of the split `meta_valid`, trained on few of its examples and on
more. What the suite reports is chosen on none of its own tasks. Their images
are those of Fashion-MNIST, prepared in TFDS' default folder.
"""

import functools

import keras
import numpy as np

from keras_l2l.tasks import varied_networks
from train.suite.tasks.base import SuiteTask

_EXAMPLES = (600, 3000)


@functools.cache
def _data(kind, number):
    x, y = (np.array(t) for t in varied_networks.data_of(kind)["meta_valid"])
    held_out = min(2000, len(x) // 4)
    number = min(number, len(x) - held_out)
    return (x[:number], y[:number]), (x[-held_out:], y[-held_out:])


def _task(network, number):
    classifies = isinstance(
        network.loss, keras.losses.SparseCategoricalCrossentropy
    )
    return SuiteTask(
        name=f"{network.name}_{number}",
        kind=f"{network.kind}, {number} examples",
        data=functools.partial(_data, network.kind, number),
        model=network.make_model,
        loss=network.loss,
        metric="accuracy" if classifies else None,
        num_steps=1000,
        batch_size=network.batch_size,
    )


TASKS = {
    task.name: task
    for number in _EXAMPLES
    for task in (
        _task(n, number) for n in varied_networks.networks("meta_valid")
    )
}
