"""Meta-gradient estimators. A new one is one module here and one line below."""

import inspect

from keras_l2l.estimators.base import Episode
from keras_l2l.estimators.base import GradientEstimator
from keras_l2l.estimators.evolution_strategies import EvolutionStrategies
from keras_l2l.estimators.evolution_strategies import PersistentES
from keras_l2l.estimators.imitation import Imitation
from keras_l2l.estimators.truncated_backprop import TruncatedBackprop
from keras_l2l.utils import checks

__all__ = [
    "Episode",
    "EvolutionStrategies",
    "GradientEstimator",
    "Imitation",
    "PersistentES",
    "TruncatedBackprop",
    "make_estimator",
]

# By name, as `meta_train` and its flag have it.
ESTIMATORS = {
    "backprop": TruncatedBackprop,
    "es": EvolutionStrategies,
    "persistent_es": PersistentES,
}
# Arguments of `meta_train` that only some of them take, and what they are
# where they say nothing.
_OF_SOME = {
    "second_derivatives": False,
    "sampled_coordinates": None,
    "teacher": None,
    "imitation_weight": 1.0,
    "pairs": 4,
    "stddev": 0.01,
}
# The names of arguments of estimators, all but the rule and the task.
ARGUMENTS = (
    "estimator",
    "horizon",
    "unroll_length",
    "loss_weights",
    "compile_unroll",
    *_OF_SOME,
)


def make_estimator(rule, task, estimator="backprop", teacher=None, **arguments):
    """Returns the estimator that arguments of `meta_train` describe.

    Args:
        rule, task, estimator, teacher: As there.
        **arguments: Those of the estimator.

    Raises:
        TypeError: if an argument is unknown.
        ValueError: as the estimator does, and if there is none of that name,
            or it can't do what an argument asks for.
    """
    unknown = sorted(set(arguments) - set(ARGUMENTS))
    if unknown:
        raise TypeError(
            "Arguments of an estimator must be of rule, task, "
            f"{', '.join(ARGUMENTS)}. Received: {checks.shown(unknown)}"
        )
    if not isinstance(estimator, str) or estimator not in ESTIMATORS:
        raise ValueError(
            f"`estimator` must be one of {', '.join(ESTIMATORS)}. Received: "
            f"estimator={checks.shown(estimator)}"
        )
    cls = ESTIMATORS[estimator]
    if teacher is not None:
        arguments["teacher"] = teacher
        if cls is TruncatedBackprop:
            cls = Imitation
    known = inspect.signature(cls).parameters
    for name in set(arguments) - set(known):
        if arguments[name] != _OF_SOME[name]:
            raise ValueError(
                f"`{name}` must be left out for the estimator {estimator!r}, "
                "which has no use for it. Received: "
                f"{name}={checks.shown(arguments[name])}"
            )
        del arguments[name]
    return cls(rule, task, **arguments)


def name_of(class_name):
    """Returns the key of `ESTIMATORS` that makes estimators of a class.

    With a teacher, truncated backpropagation is `Imitation`.
    """
    names = {cls.__name__: name for name, cls in ESTIMATORS.items()}
    return {**names, Imitation.__name__: "backprop"}[class_name]
