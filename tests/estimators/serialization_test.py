"""Estimators as JSON, and back."""

import dataclasses
import json

import pytest
import tensorflow as tf
from reflection import every_estimator
from reflection import make

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import rules
from keras_l2l import tasks


@every_estimator
def test_every_estimator_comes_back_from_json(estimator):
    made = make(estimator)
    described = json.loads(json.dumps(estimators.serialize(made)))
    again = estimators.deserialize(described)
    assert type(again) is estimator
    assert estimators.serialize(again) == described
    assert again.unroll_length == made.unroll_length == 3


@every_estimator
def test_every_estimator_has_a_flag(estimator):
    assert estimators.ESTIMATORS[estimator.name] is estimator


def test_a_teacher_is_rebuilt():
    made = estimators.Imitation(teacher=rules.Adam(0.3))
    again = estimators.deserialize(estimators.serialize(made))
    assert again.teacher.get_config() == made.teacher.get_config()


def test_other_estimators_are_refused():
    with pytest.raises(ValueError, match="one of .*PersistentES.* Received"):
        estimators.deserialize({"class_name": "Mine", "config": {}})


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Scaled(estimators.TruncatedBackprop):
    """Multiplies meta-gradients.

    Args:
        factor: Float.
    """

    factor: float = 2.0

    def _estimate(self, meta_params, episode, seed):
        gradient, *others = super()._estimate(meta_params, episode, seed)
        scaled = tf.nest.map_structure(lambda g: self.factor * g, gradient)
        return scaled, *others


def test_an_estimator_of_ones_own_is_a_class(tmp_path):
    norms = []
    for estimator in (
        estimators.TruncatedBackprop(unroll_length=2),
        Scaled(unroll_length=2, factor=4.0),
    ):
        folder = tmp_path / type(estimator).__name__
        result = keras_l2l.meta_train(
            rules.Momentum(),
            tasks.Quadratics(3),
            folder,
            horizon=4,
            meta_steps=1,
            estimator=estimator,
            validation=meta_training.Validation(episodes=1),
            verbose=0,
        )
        norms += result.history["meta_gradient_norm"]
    assert norms[1] == pytest.approx(4 * norms[0], rel=1e-6)
    config = json.loads((folder / "config.json").read_text())
    assert config["estimator"]["class_name"] == "Scaled"
    assert config["estimator"]["config"]["factor"] == 4.0
    with pytest.raises(ValueError, match="`factor` must be a positive"):
        Scaled(factor=0)
