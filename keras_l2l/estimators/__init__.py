"""Meta-gradient estimators. A new one is one module here and one line below."""

from keras_l2l.estimators.base import Episode
from keras_l2l.estimators.base import GradientEstimator
from keras_l2l.estimators.imitation import Imitation
from keras_l2l.estimators.truncated_backprop import TruncatedBackprop

__all__ = [
    "Episode",
    "GradientEstimator",
    "Imitation",
    "TruncatedBackprop",
    "make_estimator",
]


def make_estimator(rule, task, teacher=None, imitation_weight=1.0, **arguments):
    """Returns the estimator that arguments of `meta_train` describe.

    Args:
        rule, task, teacher, imitation_weight: As there.
        **arguments: Those of `TruncatedBackprop`.
    """
    if teacher is None:
        return TruncatedBackprop(rule, task, **arguments)
    return Imitation(
        rule,
        task,
        teacher=teacher,
        imitation_weight=imitation_weight,
        **arguments,
    )


# The names of its arguments, all but the rule and the task.
ARGUMENTS = (
    "horizon",
    "unroll_length",
    "second_derivatives",
    "loss_weights",
    "sampled_coordinates",
    "teacher",
    "imitation_weight",
)
