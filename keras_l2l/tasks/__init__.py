"""Tasks. A new task is one module here and one line below."""

import importlib

from keras_l2l.tasks.base import SPLITS
from keras_l2l.tasks.base import Task
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.tasks.functions import AnalyticFunctions
from keras_l2l.tasks.keras_model import KerasModelTask
from keras_l2l.tasks.quadratics import Quadratic
from keras_l2l.tasks.quadratics import Quadratics
from keras_l2l.tasks.reparametrized import Reparametrized
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
    "AnalyticFunctions",
    "ConvNetClassification",
    "DatasetError",
    "ImageClassification",
    "KerasModelTask",
    "Network",
    "NetworkTask",
    "NeuralArt",
    "Quadratic",
    "Quadratics",
    "Reparametrized",
    "Task",
    "TaskFamily",
    "Varied",
]


def __getattr__(name):
    if name in _LAZY:
        module = importlib.import_module(f"keras_l2l.tasks.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_l2l.tasks' has no attribute {name!r}")
