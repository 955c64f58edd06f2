"""Networks like those of meta-training, as tasks.

Their data are Fashion-MNIST and what is in this package. `held_out` are those
that presets are tested on; the default's meta-parameters are chosen on those of
`validation`, so that what the suite reports is chosen on none of its own tasks.
"""

import functools

import keras
import numpy as np

from keras_l2l.tasks import networks
from keras_l2l.tasks import varied_networks
from keras_l2l.tasks.data import datasets
from keras_l2l.tasks.data import text
from train.suite.tasks.base import SuiteTask

# Examples that a model is evaluated on, at most.
_EVALUATED = 2000


def held_out(data_dir=None, download=False):
    """Returns a dict from names to `SuiteTask`s.

    They are trained on the split `train`, which meta-training uses too, and
    evaluated on the split `test`, which it does not.

    Args:
        data_dir, download: Of Fashion-MNIST, as for `ImageClassification`.
    """
    found = {}
    for name, network in networks.TEST_NETWORKS.items():
        data = functools.partial(
            _test_data, network.dataset, data_dir, download
        )
        (x, y), _ = data()
        classes = text.VOCABULARY if y.ndim > 1 else int(y.max()) + 1
        found[name] = SuiteTask(
            name=name,
            kind=f"{network.kind} on {network.dataset}",
            data=data,
            model=functools.partial(
                networks.KINDS[network.kind], network, x.shape[1:], classes
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metric="accuracy",
            num_steps=2000,
            batch_size=network.batch_size,
        )
    return found


def validation(data_dir=None, download=False):
    """Returns a dict from names to `SuiteTask`s, as `held_out` does.

    They are those of the split `meta_valid`, trained on few of its examples and
    on more.
    """
    found = {}
    for number in (600, 3000, 10_000):
        for network in varied_networks.networks("meta_valid"):
            name = f"{network.name}_{number}"
            found[name] = SuiteTask(
                name=name,
                kind=f"{network.kind}, {number} examples",
                data=functools.partial(
                    _validation_data, network.kind, number, data_dir, download
                ),
                model=network.make_model,
                loss=network.loss,
                metric=None if network.loss == "mse" else "accuracy",
                num_steps=1000,
                batch_size=network.batch_size,
            )
    return found


@functools.cache
def _test_data(dataset, data_dir, download):
    if dataset == networks.CHARACTERS:
        data = text.load_characters()
    else:
        data, _ = datasets.load_images(dataset, data_dir, download)
    train, evaluated = (_arrays(data[split]) for split in ("train", "test"))
    return train, tuple(t[:_EVALUATED] for t in evaluated)


@functools.cache
def _validation_data(kind, number, data_dir, download):
    data = varied_networks.data_of(kind, data_dir, download)
    x, y = _arrays(data["meta_valid"])
    evaluated = min(_EVALUATED, len(x) // 4)
    number = min(number, len(x) - evaluated)
    return (x[:number], y[:number]), (x[-evaluated:], y[-evaluated:])


def _arrays(examples):
    return tuple(np.array(t) for t in examples)
