"""The networks that presets are tested on, as tasks.

Meta-training saw neither their architectures nor the examples of the split
`test`, on which they are evaluated, but others of the same kind.
"""

import functools

import keras
import numpy as np

from keras_l2l.tasks import networks
from keras_l2l.tasks.data import datasets
from keras_l2l.tasks.data import text
from train.suite.tasks.base import SuiteTask

_NUM_STEPS = 2000
_EVALUATED = 2000


@functools.cache
def _data(dataset, data_dir, download):
    if dataset == networks.CHARACTERS:
        data = text.load_characters()
    else:
        data, _ = datasets.load_images(dataset, data_dir, download)
    (x, y), held_out = (
        tuple(np.array(t) for t in data[split]) for split in ("train", "test")
    )
    return (x, y), tuple(t[:_EVALUATED] for t in held_out)


def _task(name, network, data_dir, download):
    data = functools.partial(_data, network.dataset, data_dir, download)
    (x, y), _ = data()
    classes = text.VOCABULARY if y.ndim > 1 else int(y.max()) + 1
    return SuiteTask(
        name=name,
        kind=f"{network.kind} on {network.dataset}",
        data=data,
        model=functools.partial(
            networks.KINDS[network.kind], network, x.shape[1:], classes
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metric="accuracy",
        num_steps=_NUM_STEPS,
        batch_size=network.batch_size,
    )


def tasks(data_dir=None, download=False):
    """Returns a dict from names to `SuiteTask`s.

    Args:
        data_dir, download: Of Fashion-MNIST, as for `ImageClassification`.
    """
    return {
        name: _task(name, network, data_dir, download)
        for name, network in networks.TEST_NETWORKS.items()
    }
