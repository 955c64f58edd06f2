"""Tasks whose parameters are rescaled, against the tasks themselves."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task

from keras_l2l import tasks


@pytest.mark.parametrize("per", ["coordinate", "tensor"])
def test_only_the_parameters_are_others(per):
    inner = regression_task()
    family = tasks.Reparametrized(inner, 2.0, per)
    seed = tf.constant(5, tf.int64)
    task = family.sample(seed)
    params, original = task.init_params(seed), inner.init_params(seed)
    batch = task.batches("train", seed)(tf.constant(0, tf.int64))

    def value_and_gradients(task, params):
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, _ = task.stateful_loss(params, [], batch)
        return loss, tape.gradient(loss, params)

    loss, gradients = value_and_gradients(task, params)
    expected, inner_gradients = value_and_gradients(inner, original)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(
        task.metrics(params, [], "test").get("loss", 0.0),
        inner.metrics(original, [], "test").get("loss", 0.0),
    )
    found = []
    for p, o, g, i in zip(
        params, original, gradients, inner_gradients, strict=True
    ):
        # Biases start at 0, whatever their factors are.
        known = np.asarray(o) != 0
        factors = np.asarray(o)[known] / np.asarray(p)[known]
        np.testing.assert_allclose(
            np.asarray(g)[known],
            np.asarray(i)[known] * factors,
            rtol=1e-4,
            atol=1e-6,
        )
        found.append(factors)
    factors = max(found, key=len)
    assert len(factors) > 1
    assert np.exp(-2) <= factors.min() and factors.max() <= np.exp(2)
    if per == "tensor":
        np.testing.assert_allclose(factors, factors[0], rtol=1e-5)
    else:
        assert np.ptp(factors) > 0


def test_episodes_have_factors_of_their_own():
    family = tasks.Reparametrized(tasks.Quadratics(4))
    first, second = (
        family.sample(tf.constant(s, tf.int64)).init_params(0) for s in (1, 2)
    )
    assert np.abs(first[0] / second[0] - 1).min() > 1e-3
    assert family.get_config()["task"]["name"] == "quadratics"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("mnist",), "`task` must be"),
        ((tasks.Quadratics(2), 0.0), "`spread` must be"),
        ((tasks.Quadratics(2), 1.0, "layer"), "`per` must be"),
    ],
    ids=["task", "spread", "per"],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.Reparametrized(*arguments)
