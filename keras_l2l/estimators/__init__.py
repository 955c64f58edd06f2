"""Meta-gradient estimators. A new one is one module here and one line below."""

from keras_l2l.estimators.base import Episode
from keras_l2l.estimators.base import GradientEstimator
from keras_l2l.estimators.truncated_backprop import TruncatedBackprop

__all__ = ["Episode", "GradientEstimator", "TruncatedBackprop"]
