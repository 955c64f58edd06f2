"""Meta-gradient estimators. A new one is one module here and one line below."""

import typing

from keras_l2l.estimators.base import Episode
from keras_l2l.estimators.base import GradientEstimator
from keras_l2l.estimators.evolution_strategies import EvolutionStrategies
from keras_l2l.estimators.evolution_strategies import PersistentES
from keras_l2l.estimators.evolution_strategies import SingleES
from keras_l2l.estimators.imitation import Imitation
from keras_l2l.estimators.truncated_backprop import TruncatedBackprop
from keras_l2l.utils import checks

__all__ = [
    "Episode",
    "EvolutionStrategies",
    "GradientEstimator",
    "Imitation",
    "PersistentES",
    "SingleES",
    "TruncatedBackprop",
    "deserialize",
    "serialize",
]

# By the names that flags have for them.
ESTIMATORS = {
    cls.name: cls for cls in map(globals().get, __all__) if hasattr(cls, "name")
}


def serialize(estimator: GradientEstimator) -> dict[str, typing.Any]:
    """Returns `{"class_name": ..., "config": ...}` for an estimator."""
    return {
        "class_name": type(estimator).__name__,
        "config": estimator.get_config(),
    }


def deserialize(config: dict[str, typing.Any]) -> GradientEstimator:
    """Rebuilds an estimator of this package from `serialize`'s dict.

    Raises:
        ValueError: if it describes another class.
    """
    classes = {cls.__name__: cls for cls in ESTIMATORS.values()}
    if config["class_name"] not in classes:
        raise ValueError(
            f"An estimator must be one of {', '.join(classes)} to be rebuilt "
            f"from its description. Received: {checks.shown(config)}. Make "
            "one of your own with its constructor."
        )
    return classes[config["class_name"]].from_config(config["config"])
