"""How updates are applied, and what takes the place of parameters."""

import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators import imitation
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.evaluation import proposed_updates
from keras_l2l.rules import updates

TASK = tasks.Quadratic(tf.eye(2), tf.constant([1.0, -1.0]))
GUARDED = rules.Guarded(rules.SGD(1e25), rules.SGD(0.0))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_replace(dtype):
    param = tf.constant([1.0, float("nan")], dtype)
    assert updates.replace(param, None) is param
    for when, expected in ((True, [3.0, 4.0]), (False, param)):
        replacement = updates.Replacement(
            tf.constant(when), tf.constant([3.0, 4.0])
        )
        received = updates.replace(param, replacement)
        assert received.dtype == dtype
        np.testing.assert_array_equal(received, expected)


def test_updates_are_added_unless_the_rule_replaces():
    params, moves = [tf.constant([1.0, 2.0])], [tf.constant([0.5, 0.0])]
    (received,) = updates.apply_updates(rules.SGD(), params, moves, {})
    np.testing.assert_array_equal(received, [1.5, 2.0])


def wrapped(rule):
    return imitation._Taught(rule, rules.Adam(), [2])


@pytest.mark.parametrize("wrap", [lambda rule: rule, wrapped])
def test_an_unroll_sets_parameters_back(wrap):
    rule = wrap(GUARDED).for_variables(TASK.variables())
    carry = unroll_lib.init_carry(rule, TASK, seed=0)
    losses, after = unroll_lib.unroll(
        rule, TASK, rule.init_meta_params(0), carry, lambda step: (), 11
    )
    assert float(losses[9]) > 1e20
    assert losses[10] == TASK.loss(carry.params, ())
    np.testing.assert_array_equal(after.params[0], carry.params[0])


def test_proposed_updates_follow_replacements():
    data = proposed_updates.proposed_updates(
        GUARDED, GUARDED.init_meta_params(0), TASK, (0, 5, 11), points=3
    )
    first, diverged, back = (panel[0]["gradient"] for panel in data["panels"])
    assert abs(diverged) > 1e20
    assert back == first
