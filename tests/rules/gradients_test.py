import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import rules
from keras_l2l.rules import gradients

LSTM = rules.CoordinatewiseLSTM()


def test_what_is_not_finite_is_masked():
    gradient = tf.constant([[1.0, np.nan], [-np.inf, 2.0]], tf.float16)
    found = gradients.received([gradient], [(2, 2)], [])
    assert found.seen == []
    assert found.gradients[0].dtype == tf.float32
    np.testing.assert_array_equal(found.gradients[0], gradient)
    np.testing.assert_array_equal(found.mask[0], [[True, False], [False, True]])


def test_too_large_for_float32_is_infinite():
    gradient = tf.constant([1e300, 1e30], tf.float64)
    found = gradients.received([gradient], [(2,)], [])
    np.testing.assert_array_equal(found.mask[0], [False, True])
    found = gradients.received([gradient], [(2,)], [], "float64")
    assert found.gradients[0].dtype == tf.float64
    np.testing.assert_array_equal(found.mask[0], [True, True])


def test_sparse_gradient_sums_repeated_rows():
    slices = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [10.0, 20.0], [np.nan, 5.0]]),
        tf.constant([2, 2, 0], tf.int64),
        tf.constant([4, 2]),
    )
    seen = gradients.init_seen(LSTM, [(4, 2)])
    found = gradients.received([slices], [(4, 2)], seen)
    np.testing.assert_array_equal(
        found.gradients[0], [[np.nan, 5], [0, 0], [11, 22], [0, 0]]
    )
    present = [[False, True], [False, False], [True, True], [False, False]]
    np.testing.assert_array_equal(found.mask[0], present)
    np.testing.assert_array_equal(found.seen[0], present)


def test_masked_until_the_first_gradient_and_never_after():
    seen = gradients.init_seen(LSTM, [(4,)])
    steps = [[0, 1, np.nan, 0], [0, 0, 0, np.inf], [0, -1, 5, 0], [0, 0, 0, 0]]
    expected = [[0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    for gradient, mask in zip(steps, expected, strict=True):
        gradient = tf.constant(gradient, tf.float32)
        found = gradients.received([gradient], [(4,)], seen)
        np.testing.assert_array_equal(found.mask[0], np.array(mask, bool))
        seen = found.seen


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_no_gradient_beside_another(shape):
    seen = [tf.ones(shape, tf.bool), tf.ones(4, tf.bool)]
    found = gradients.received([None, tf.ones(4)], [shape, (4,)], seen)
    assert found.gradients[0].shape == found.mask[0].shape == shape
    assert not np.any(found.gradients[0]) and not np.any(found.mask[0])
    np.testing.assert_array_equal(found.seen[0], np.ones(shape, bool))
    assert np.all(found.mask[1])


def test_shape_is_the_variables():
    @tf.function(
        input_signature=[
            tf.TensorSpec(None),
            tf.TensorSpec([None, 2]),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def shapes(dense, values, indices):
        slices = tf.IndexedSlices(values, indices, tf.shape(dense))
        found = gradients.received([dense, slices], [(3, 2)] * 2, [])
        assert {t.shape for t in [*found.gradients, *found.mask]} == {(3, 2)}
        return found.gradients

    for gradient in shapes(
        tf.ones((3, 2)), tf.ones((3, 2)), tf.constant([2, 1, 0])
    ):
        np.testing.assert_array_equal(gradient, np.ones((3, 2)))
