"""Analytic functions at points that are known."""

import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import tasks
from keras_l2l.tasks import functions


@pytest.mark.parametrize(
    "name, minimum",
    [
        ("rosenbrock", 1.0),
        ("rastrigin", 0.0),
        ("ackley", 0.0),
        ("styblinski_tang", -2.903534027771177),
    ],
)
def test_minimum(name, minimum):
    function = functions.FUNCTIONS[name]
    x = tf.fill([5], tf.constant(minimum, tf.float64))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    assert float(value) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(tape.gradient(value, x), np.zeros(5), atol=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert float(function(x + rng.normal(size=5))) > 0.1


@pytest.mark.parametrize(
    "name, x, expected",
    [
        ("rosenbrock", [0.0, 2.0], 401.0),
        ("rastrigin", [1.0, 0.5], 1 + 0.25 + 20),
        ("ackley", [1.0, 1.0], 20 - 20 * np.exp(-0.2)),
        ("styblinski_tang", [0.0, 1.0], 2 * 39.16616570377142 - 5),
    ],
)
def test_known_values(name, x, expected):
    value = functions.FUNCTIONS[name](tf.constant(x, tf.float64))
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_members_are_moved():
    family = tasks.AnalyticFunctions("ackley", 3)
    assert family.name == "ackley_3"
    params = family.sample(0).init_params(0)
    losses = {
        float(family.sample(tf.constant(s, tf.int64)).loss(params, ()))
        for s in range(5)
    }
    assert len(losses) == 5


@pytest.mark.parametrize(
    "arguments, message",
    [(("nope",), "`function` must be one of"), (("ackley", 1), "`dimension`")],
    ids=["function", "dimension"],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.AnalyticFunctions(*arguments)
