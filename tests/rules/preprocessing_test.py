import math

import numpy as np
import pytest
import tensorflow as tf

from keras_l2l.rules import preprocessing


def log_and_sign_by_definition(gradient, p):
    if abs(gradient) >= math.exp(-p):
        return math.log(abs(gradient)) / p, math.copysign(1, gradient)
    return -1.0, math.exp(p) * gradient


@pytest.mark.parametrize("p", [10.0, 5.0, 1.0])
def test_log_and_sign_equals_its_definition(p):
    magnitudes = np.logspace(-12, 6, 181)
    gradients = np.concatenate([-magnitudes, [0.0], magnitudes])
    features = preprocessing.log_and_sign(gradients, p)
    expected = [log_and_sign_by_definition(g, p) for g in gradients]
    expected = np.transpose(expected)
    np.testing.assert_allclose(features, expected, rtol=1e-12, atol=1e-14)


def test_log_and_sign_has_finite_derivatives_everywhere():
    gradients = tf.constant(
        [0.0, 1e-38, -1e-38, math.exp(-10), 1e-4, -1.0, 1e30]
    )
    with tf.GradientTape() as tape:
        tape.watch(gradients)
        features = preprocessing.log_and_sign(gradients)
    assert features.shape == (2, 7)
    assert features.dtype == tf.float32
    assert np.isfinite(features).all()
    assert np.isfinite(tape.gradient(features, gradients)).all()
