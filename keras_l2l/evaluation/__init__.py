"""Training curves, comparisons and figures for optimizers."""

from keras_l2l.evaluation.compared import Compared
from keras_l2l.evaluation.comparison import BASELINES
from keras_l2l.evaluation.comparison import LEARNING_RATES
from keras_l2l.evaluation.comparison import UNTUNED
from keras_l2l.evaluation.comparison import evaluate
from keras_l2l.evaluation.comparison import final_params
from keras_l2l.evaluation.comparison import training_curve
from keras_l2l.evaluation.comparison import training_curves
from keras_l2l.evaluation.comparison import tune_learning_rate
from keras_l2l.evaluation.summary import format_table

__all__ = [
    "BASELINES",
    "LEARNING_RATES",
    "UNTUNED",
    "Compared",
    "evaluate",
    "final_params",
    "format_table",
    "training_curve",
    "training_curves",
    "tune_learning_rate",
]
