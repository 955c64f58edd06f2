import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import gradients


def test_dense_gradient():
    gradient = tf.constant([[1.0, np.nan], [-np.inf, 0.0]], tf.float16)
    dense, mask = gradients.dense_and_mask(gradient, (2, 2))
    assert dense.dtype == tf.float32
    np.testing.assert_array_equal(dense, gradient)
    np.testing.assert_array_equal(mask, [[True, False], [False, True]])


def test_too_large_for_float32_is_infinite():
    gradient = tf.constant([1e300, 1e30], tf.float64)
    _, mask = gradients.dense_and_mask(gradient, (2,))
    np.testing.assert_array_equal(mask, [False, True])


def test_sparse_gradient_sums_repeated_rows():
    slices = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [10.0, 20.0], [np.nan, 5.0]]),
        tf.constant([2, 2, 0], tf.int64),
        tf.constant([4, 2]),
    )
    dense, mask = gradients.dense_and_mask(slices, (4, 2))
    np.testing.assert_array_equal(
        dense, [[np.nan, 5.0], [0.0, 0.0], [11.0, 22.0], [0.0, 0.0]]
    )
    np.testing.assert_array_equal(
        mask, [[False, True], [False, False], [True, True], [False, False]]
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_no_gradient(shape):
    dense, mask = gradients.dense_and_mask(None, shape)
    assert dense.shape == mask.shape == shape
    assert not np.any(dense) and not np.any(mask)
