"""Tasks. A new task is one module here and one line below."""

import importlib
import typing

from keras_l2l.tasks.base import SPLITS
from keras_l2l.tasks.base import Task
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.tasks.keras_model import KerasModelTask
from keras_l2l.tasks.quadratics import Quadratic
from keras_l2l.tasks.quadratics import Quadratics
from keras_l2l.tasks.varied import Varied

# Imported on first use, since these need tensorflow_datasets.
_LAZY = {
    "DatasetError": "data.datasets",
    "ConvNetClassification": "conv_net",
    "ImageClassification": "image_classification",
    "Network": "networks",
    "NetworkTask": "networks",
    "NeuralArt": "neural_art",
}
__all__ = [
    "SPLITS",
    "ConvNetClassification",
    "DatasetError",
    "ImageClassification",
    "KerasModelTask",
    "Network",
    "NetworkTask",
    "NeuralArt",
    "Quadratic",
    "Quadratics",
    "Task",
    "TaskFamily",
    "Varied",
]

if typing.TYPE_CHECKING:
    from keras_l2l.tasks.conv_net import ConvNetClassification
    from keras_l2l.tasks.data.datasets import DatasetError
    from keras_l2l.tasks.image_classification import ImageClassification
    from keras_l2l.tasks.networks import Network
    from keras_l2l.tasks.networks import NetworkTask
    from keras_l2l.tasks.neural_art import NeuralArt
else:

    def __getattr__(name):
        if name in _LAZY:
            module = importlib.import_module(f"keras_l2l.tasks.{_LAZY[name]}")
            return getattr(module, name)
        raise AttributeError(
            f"module 'keras_l2l.tasks' has no attribute {name!r}"
        )
