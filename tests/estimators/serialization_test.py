"""Estimators as JSON, and back."""

import json

import pytest
from reflection import every_estimator
from reflection import make

from keras_l2l import estimators
from keras_l2l import rules


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
