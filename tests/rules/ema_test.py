import numpy as np
import pytest
import tensorflow as tf

from keras_l2l.rules import ema


def test_update_is_a_weighted_mean():
    after = ema.update(tf.constant([4.0, 0.0]), tf.constant([8.0, 8.0]), 0.75)
    np.testing.assert_allclose(after, [5.0, 2.0])


def test_update_many_has_an_ema_for_each_decay():
    before = tf.constant([[[4.0, 0.0]], [[4.0, 0.0]]])
    after = ema.update_many(before, tf.constant([[8.0, 8.0]]), (0.75, 0.5))
    np.testing.assert_allclose(after, [[[5.0, 2.0]], [[6.0, 4.0]]])


@pytest.mark.parametrize(
    "shape, row, column",
    [
        ((12, 5), (5,), (12,)),
        ((5, 12), (5,), (12,)),
        # Of equal axes, the last counts as the largest.
        ((3, 3, 2), (3, 2), (3, 2)),
        ((4, 4), (4,), (4,)),
        ((1, 1), (1,), (1,)),
        ((2, 7, 1, 5), (2, 1, 5), (2, 7, 1)),
    ],
)
def test_factored_axes(shape, row, column):
    factored = ema.FactoredMoments(shape, (0.9, 0.5))
    state = factored.init_state()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "row": (2, *row),
        "column": (2, *column),
    }
    squares = tf.random.stateless_uniform(shape, (0, 1))
    state = factored.update(state, squares)
    largest = np.argsort(shape, kind="stable")[-1]
    np.testing.assert_allclose(
        state["row"][1], 0.5 * np.mean(squares, largest), rtol=1e-6
    )
    for tensor in factored.expanded(state):
        np.broadcast_shapes(tensor.shape[1:], shape)
