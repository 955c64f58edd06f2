"""Learned optimizers for Keras: the update is a small trained network."""

import importlib
import typing

from keras_l2l import installed  # noqa: F401

# isort: split
from keras_l2l import callbacks
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.optimizer.callbacks import TrainingLength
from keras_l2l.optimizer.learned_optimizer import LearnedOptimizer
from keras_l2l.presets import upload_preset
from keras_l2l.rules import CoordinatewiseLSTM
from keras_l2l.rules import CoordinatewiseRule
from keras_l2l.rules import StepInputs
from keras_l2l.rules import UpdateRule
from keras_l2l.utils import backends
from keras_l2l.version import __version__

__all__ = [
    "CoordinatewiseLSTM",
    "CoordinatewiseRule",
    "LearnedOptimizer",
    "StepInputs",
    "TrainingLength",
    "UpdateRule",
    "__version__",
    "callbacks",
    "compare",
    "estimators",
    "evaluation",
    "export",
    "meta_train",
    "meta_training",
    "presets",
    "rules",
    "tasks",
    "upload_preset",
]


# What needs TensorFlow is imported on first use: optimizing does not.
_LAZY = ("estimators", "evaluation", "export", "meta_training", "tasks")
_FUNCTIONS = {
    "compare": "keras_l2l.evaluation.compare",
    "meta_train": "keras_l2l.meta_training.meta_train",
}

if typing.TYPE_CHECKING:
    # Type checkers, which run nothing, see all names and their types.
    from keras_l2l import estimators
    from keras_l2l import evaluation
    from keras_l2l import export
    from keras_l2l import meta_training
    from keras_l2l import tasks
    from keras_l2l.evaluation.compare import compare
    from keras_l2l.meta_training.meta_train import meta_train
else:

    def __getattr__(name):
        if name in (*_LAZY, *_FUNCTIONS):
            backends.require_tensorflow(f"keras_l2l.{name}")
        if name in _FUNCTIONS:
            return getattr(importlib.import_module(_FUNCTIONS[name]), name)
        if name in _LAZY:
            return importlib.import_module(f"keras_l2l.{name}")
        message = f"module 'keras_l2l' has no attribute {name!r}"
        for module in (callbacks, presets, rules):
            if name in module.__all__:
                message += f". It is {module.__name__}.{name}"
        raise AttributeError(message)


def __dir__():
    return __all__
