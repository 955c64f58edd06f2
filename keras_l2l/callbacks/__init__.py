"""Keras callbacks for learned optimizers."""

from keras_l2l.callbacks.update_monitor import UpdateMonitor
from keras_l2l.optimizer.callbacks import TrainingLength

__all__ = ["TrainingLength", "UpdateMonitor"]
