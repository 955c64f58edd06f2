import numpy as np
import pytest
import tensorflow as tf
from conftest import float64_quadratic
from conftest import leaves
from conftest import regression_task
from conftest import to_float64

from keras_l2l import rules
from keras_l2l.estimators import unroll as unroll_lib


def python_loop(rule, task, meta_params, carry, batches, length):
    """The inner loop from its definition, eagerly."""
    params, state, _, _, iteration = carry
    losses = []
    for _ in range(length):
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss = task.loss(params, batches(iteration))
        gradients = tape.gradient(loss, params)
        inputs = rules.StepInputs(gradients, params, loss, iteration)
        updates, state = rule.step(meta_params, inputs, state)
        params = [p + u for p, u in zip(params, updates, strict=True)]
        iteration += 1
        losses.append(task.loss(params, batches(iteration)))
    return np.array(losses), params


@pytest.mark.parametrize("traced", [False, True])
def test_unroll_equals_a_python_loop(small_lstm, traced):
    task = regression_task()
    meta_params = small_lstm.init_meta_params(0)
    carry = unroll_lib.init_carry(small_lstm, task, seed=3)
    batches = task.batches("train", 3)
    expected, params = python_loop(
        small_lstm, task, meta_params, carry, batches, 7
    )

    def unroll():
        return unroll_lib.unroll(
            small_lstm, task, meta_params, carry, batches, 7
        )

    if traced:
        unroll = tf.function(unroll, autograph=False)
    losses, end = unroll()
    assert losses.shape == (7,)
    assert int(end.iteration) == 7
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    for a, b in zip(leaves(end.params), leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_two_unrolls_continue_one(small_lstm):
    task = float64_quadratic()
    meta_params = to_float64(small_lstm.init_meta_params(0))
    start = to_float64(unroll_lib.init_carry(small_lstm, task, 0))
    arguments = (small_lstm, task, meta_params)
    batches = task.batches("train", 0)
    whole, end = unroll_lib.unroll(*arguments, start, batches, 10)
    first, middle = unroll_lib.unroll(*arguments, start, batches, 4)
    second, other_end = unroll_lib.unroll(*arguments, middle, batches, 6)
    np.testing.assert_array_equal(whole, tf.concat([first, second], 0))
    for a, b in zip(leaves(end), leaves(other_end), strict=True):
        np.testing.assert_array_equal(a, b)


def test_trace_does_not_grow_with_the_length(small_lstm):
    task = float64_quadratic()
    meta_params = to_float64(small_lstm.init_meta_params(0))
    carry = to_float64(unroll_lib.init_carry(small_lstm, task, 0))

    def number_of_nodes(length):
        graph = (
            tf.function(
                lambda: unroll_lib.unroll(
                    small_lstm, task, meta_params, carry, lambda t: (), length
                )[0],
                autograph=False,
            )
            .get_concrete_function()
            .graph.as_graph_def()
        )
        return sum(len(f.node_def) for f in graph.library.function)

    assert number_of_nodes(5) == number_of_nodes(500) > 10
