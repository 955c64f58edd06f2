import keras
import numpy as np
import pytest

from keras_l2l.rules import cells


def test_lstm_step_equals_keras_lstm_cell():
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(3, 20)),
        "recurrent_kernel": rng.normal(size=(5, 20)),
        "bias": rng.normal(size=20),
    }
    layer = keras.layers.LSTMCell(5, dtype="float64")
    layer.build((None, 3))
    layer.set_weights(list(weights.values()))
    # Keras' layers have coordinates first, the cells here last.
    state = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    expected = [state[0].T, state[1].T]
    for _ in range(4):
        inputs = rng.normal(size=(3, 7))
        _, expected = layer(inputs.T, list(expected))
        state = cells.lstm_step(inputs, state, weights)
    for received, e in zip(state, expected, strict=True):
        np.testing.assert_allclose(
            received, np.transpose(e), rtol=0, atol=1e-12
        )


def test_init_lstm_equals_keras_initialization():
    layer = keras.layers.LSTMCell(5)
    layer.build((None, 3))
    weights = cells.init_lstm(3, 5, seed=0)
    assert {k: tuple(v.shape) for k, v in weights.items()} == {
        "kernel": (3, 20),
        "recurrent_kernel": (5, 20),
        "bias": (20,),
    }
    # The bias is deterministic: only the forget gate starts at 1.
    np.testing.assert_array_equal(weights["bias"], layer.get_weights()[2])
    recurrent = np.asarray(weights["recurrent_kernel"])
    np.testing.assert_allclose(
        recurrent @ recurrent.T, np.eye(5), rtol=0, atol=1e-5
    )
    limit = np.sqrt(6 / (3 + 20))
    assert 0.5 * limit < np.abs(weights["kernel"]).max() <= limit


def test_init_depends_on_the_seed_alone():
    first, same, other = (cells.init_lstm(3, 5, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first["kernel"], same["kernel"])
    assert np.abs(first["kernel"] - other["kernel"]).max() > 0.01


def test_dense_by_hand():
    weights = {
        "kernel": np.array([[1.0], [2.0]]),
        "bias": np.array([10.0]),
    }
    outputs = cells.dense(np.array([[3.0, 0.0], [4.0, -1.0]]), weights)
    np.testing.assert_array_equal(outputs, [[21.0, 8.0]])
    assert {
        k: tuple(v.shape) for k, v in cells.init_dense(2, 1, 0).items()
    } == {"kernel": (2, 1), "bias": (1,)}


@pytest.mark.parametrize("large", [1, 100])
def test_small_product_is_a_product(large, monkeypatch):
    monkeypatch.setattr(cells, "LARGE", large)
    rng = np.random.default_rng(0)
    kernel, inputs = rng.normal(size=(3, 2)), rng.normal(size=(3, 4, 5))
    np.testing.assert_allclose(
        cells.small_product(kernel, inputs),
        np.einsum("su,snm->unm", kernel, inputs),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        cells.small_product(kernel, inputs[:, 0, 0]),
        kernel.T @ inputs[:, 0, 0],
        rtol=1e-6,
    )
