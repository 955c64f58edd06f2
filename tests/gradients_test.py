import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import gradients


def test_dense_gradients_are_all_there():
    gradient = tf.constant([[1.0, np.nan], [-np.inf, 0.0]], tf.float16)
    (dense,), present = gradients.dense_and_present([gradient], [(2, 2)])
    assert present == [None]
    assert dense.dtype == tf.float32
    np.testing.assert_array_equal(dense, gradient)
    np.testing.assert_array_equal(
        gradients.mask(dense, None), [[True, False], [False, True]]
    )


def test_too_large_for_float32_is_infinite():
    gradient = tf.constant([1e300, 1e30], tf.float64)
    (dense,), _ = gradients.dense_and_present([gradient], [(2,)])
    np.testing.assert_array_equal(gradients.mask(dense, None), [False, True])


def test_sparse_gradient_sums_repeated_rows():
    slices = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [10.0, 20.0], [np.nan, 5.0]]),
        tf.constant([2, 2, 0], tf.int64),
        tf.constant([4, 2]),
    )
    (dense,), (present,) = gradients.dense_and_present([slices], [(4, 2)])
    np.testing.assert_array_equal(
        dense, [[np.nan, 5.0], [0.0, 0.0], [11.0, 22.0], [0.0, 0.0]]
    )
    np.testing.assert_array_equal(
        present, [[True, True], [False, False], [True, True], [False, False]]
    )
    np.testing.assert_array_equal(
        gradients.mask(dense, present),
        [[False, True], [False, False], [True, True], [False, False]],
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_no_gradient_beside_another(shape):
    dense, present = gradients.dense_and_present(
        [None, tf.ones(4)], [shape, (4,)]
    )
    assert dense[0].shape == present[0].shape == shape
    assert not np.any(dense[0]) and not np.any(present[0])
    assert present[1].shape == (4,) and np.all(present[1])
