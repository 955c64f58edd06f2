import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_close

from keras_l2l import rules
from keras_l2l.optimizer import chunks
from keras_l2l.utils import backends


@pytest.mark.parametrize(
    "n, compiled, masked",
    [
        *((n, True, True) for n in (7, 8, 9, 30)),
        *((9, True, masked) for masked in (None, False)),
        *((9, False, masked) for masked in (None, False, True)),
    ],
)
def test_chunks_equal_the_whole(n, compiled, masked, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 4)
    rng = np.random.default_rng(n)
    rule = rules.CoordinatewiseLSTM(units=(3, 2))
    meta_params = rule.init_meta_params(0)
    gradient = tf.constant(rng.normal(size=n), tf.float32)
    # No mask, one that lets all through, and one that does not.
    mask = None if masked is None else tf.constant(rng.random(n) > 0.2 * masked)
    state = keras.tree.map_structure(
        lambda t: tf.constant(rng.normal(size=t.shape), tf.float32),
        rule.init_coordinate_state(n),
    )

    def step(gradient, state, mask):
        return rule.masked_coordinate_step(
            meta_params, gradient, state, 0, mask
        )

    @tf.function(jit_compile=compiled)
    def in_chunks(gradient, state, mask):
        return chunks.map_in_chunks(step, gradient, state, mask)

    expected = step(gradient, state, mask)
    received = in_chunks(gradient, state, mask)
    keras.tree.assert_same_structure(received, expected)
    assert_close(received, expected, rtol=0, atol=1e-6)


def whole(vector, state, mask):
    assert vector.shape[0] > chunks.CHUNK
    return vector + state, state


def test_nothing_is_cut_that_is_shorter_than_two_chunks():
    vector = tf.ones(2 * chunks.CHUNK - 1)
    update, state = chunks.map_in_chunks(whole, vector, vector)
    assert state is vector
    np.testing.assert_array_equal(update, 2 * vector)


def test_nothing_is_cut_where_nothing_is_written_in_place(monkeypatch):
    monkeypatch.setattr(backends, "writes_in_place", lambda: False)
    vector = tf.ones(3 * chunks.CHUNK)
    update, state = chunks.map_in_chunks(whole, vector, vector)
    assert state is vector
    np.testing.assert_array_equal(update, 2 * vector)
