import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l.optimizer import chunks
from keras_l2l.optimizer import state_storage
from train.benchmarks import timing

STATE = {
    "a": tf.constant([0.0, -1.0, 1e-30, 3e38, 1 + 2**-9, 1 + 3 * 2**-9]),
    "b": [tf.constant([[1 / 3]])],
}


def test_float32_is_stored_as_it_is():
    held = state_storage.Storage("float32")
    assert (held.variable_dtype, held.bytes_per_float) == ("float32", 4)
    assert held.write(STATE) is STATE
    assert held.read(STATE) is STATE


def test_bfloat16_is_stored_as_its_bits():
    held = state_storage.Storage("bfloat16")
    assert (held.variable_dtype, held.bytes_per_float) == ("int16", 2)
    stored = held.write(STATE)
    assert stored["a"].dtype == stored["b"][0].dtype == tf.int16
    state = held.read(stored)
    for received, value in zip(
        (state["a"], state["b"][0]), (STATE["a"], STATE["b"][0]), strict=True
    ):
        assert received.dtype == tf.float32
        expected = value.numpy().astype(ml_dtypes.bfloat16).astype("float32")
        np.testing.assert_array_equal(received, expected)


def test_dtype_must_be_known():
    with pytest.raises(ValueError, match="one of float32, bfloat16. Received"):
        state_storage.Storage("float16")


def test_what_must_not_be_rounded_is_refused():
    assert state_storage.Storage("float32", rounds=False).bytes_per_float == 4
    with pytest.raises(ValueError, match="add up. Received: 'bfloat16'"):
        state_storage.Storage("bfloat16", rounds=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_initial_values_are_computed_once_for_all(dtype):
    held, calls, compiled = state_storage.Storage(dtype), [], []
    initial = held.initial(
        lambda: calls.append(1) or STATE,
        lambda function: compiled.append(1) or function(),
    )
    stored = held.write(STATE)
    expected = {"a": stored["a"], "b/0": stored["b"][0]}
    for path, value in expected.items():
        np.testing.assert_array_equal(initial(path), value)
    assert len(calls) == 1
    # On another device again, from the start.
    np.testing.assert_array_equal(initial("a"), expected["a"])
    assert len(calls) == 2
    assert len(compiled) == (2 if dtype == "bfloat16" else 0)


def memory_of_an_update(count, size, dtype):
    """Returns the MB of the state, and what the first updates take beside."""
    rule = keras_l2l.CoordinatewiseLSTM()
    # What compilation takes is not counted.
    _memory(keras_l2l.LearnedOptimizer(rule=rule), 1, 5 * chunks.CHUNK + 1)
    optimizer = keras_l2l.LearnedOptimizer(rule=rule, state_dtype=dtype)
    memory = _memory(optimizer, count, size)
    state = sum(
        v.value.shape.num_elements() * v.value.dtype.size / 2**20
        for v in optimizer._state
    )
    return state, memory - state


def _memory(optimizer, count, size):
    """Returns the MB that a new state and the first updates take."""
    variables = [keras.Variable(np.zeros(size, "f4")) for _ in range(count)]
    gradients = [
        tf.random.stateless_normal([size], [0, i]) for i in range(count)
    ]
    before = timing.reset_peak_mb()
    optimizer.build(variables)
    update = tf.function(
        lambda: optimizer.apply(gradients, variables), autograph=False
    )
    for _ in range(2):
        update()
        variables[-1].numpy()  # Waits.
    return timing.peak_mb() - before


@pytest.mark.parametrize(
    "dtype, size", [("float32", 250_000), ("bfloat16", 500_000)]
)
@pytest.mark.slow
def test_the_state_is_updated_in_place(dtype, size):
    state, transient = timing.in_fresh_process(
        memory_of_an_update, 2, size, dtype
    )
    assert state == 320 * 500_000 / 2**20
    # Another copy of the state would be as much again. What compilation takes
    # is in it.
    assert transient < state
