"""`meta_train`, its options, and all that a run of it consists of."""

from keras_l2l.meta_training.options import Curriculum
from keras_l2l.meta_training.options import MetaOptimizer
from keras_l2l.meta_training.options import Validation
from keras_l2l.meta_training.options import arguments_of

__all__ = ["Curriculum", "MetaOptimizer", "Validation", "arguments_of"]
