"""The networks that the default's meta-parameters are chosen on, as tasks.

They are those of the split `meta_valid`, trained on few of its examples and on
more. What the suite reports is chosen on none of its own tasks.
"""

import functools

import keras
import numpy as np

from keras_l2l.tasks import varied_networks
from train.suite.tasks.base import SuiteTask

_EXAMPLES = (600, 3000)


@functools.cache
def _data(kind, number, data_dir, download):
    data = varied_networks.data_of(kind, data_dir, download)
    x, y = (np.array(t) for t in data["meta_valid"])
    held_out = min(2000, len(x) // 4)
    number = min(number, len(x) - held_out)
    return (x[:number], y[:number]), (x[-held_out:], y[-held_out:])


def _task(network, number, data_dir, download):
    classifies = isinstance(
        network.loss, keras.losses.SparseCategoricalCrossentropy
    )
    return SuiteTask(
        name=f"{network.name}_{number}",
        kind=f"{network.kind}, {number} examples",
        data=functools.partial(_data, network.kind, number, data_dir, download),
        model=network.make_model,
        loss=network.loss,
        metric="accuracy" if classifies else None,
        num_steps=1000,
        batch_size=network.batch_size,
    )


def tasks(data_dir=None, download=False):
    """Returns a dict from names to `SuiteTask`s.

    Args:
        data_dir, download: Of Fashion-MNIST, as for `ImageClassification`.
    """
    found = [
        _task(network, number, data_dir, download)
        for number in _EXAMPLES
        for network in varied_networks.networks("meta_valid")
    ]
    return {task.name: task for task in found}
