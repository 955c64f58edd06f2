"""A rule that leaves as SavedModel takes its steps in plain TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM

import keras_l2l
from keras_l2l import export
from keras_l2l import rules
from keras_l2l.utils import nests

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def loaded_rule(tmp_path_factory):
    """An exported LSTM, loaded, and its optimizer."""
    folder = tmp_path_factory.mktemp("exported")
    optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
    export.export_update_rule(optimizer, folder)
    return tf.saved_model.load(folder), optimizer


@pytest.mark.parametrize("jit_compile", [False, True])
def test_updates_are_differentiable(loaded_rule, jit_compile):
    loaded, optimizer = loaded_rule
    gradient = tf.constant(RNG.normal(size=7).astype("float32"))
    start = loaded.initial_state(7)
    floats = [start[n] for n in sorted(start) if n.startswith("state_")]

    @tf.function(jit_compile=jit_compile)
    def exported(gradient, state):
        total = 0.0
        for _ in range(3):
            update, state = loaded.update(gradient, state)
            total += tf.reduce_sum(update)
        return total

    with tf.GradientTape() as tape:
        tape.watch([gradient, *floats])
        total = exported(gradient, start)
    received = tape.gradient(total, [gradient, *floats, *loaded.meta_params])
    rule = optimizer.rule
    state = rule.init_coordinate_state(7)
    meta_params = keras.tree.map_structure(
        tf.convert_to_tensor, optimizer.meta_params
    )
    watched = [
        gradient,
        *(leaf for _, leaf in nests.named_leaves(state)),
        *(leaf for _, leaf in nests.named_leaves(meta_params)),
    ]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        expected_total = 0.0
        for i in range(3):
            update, state = rule.coordinate_step(
                meta_params, gradient, state, tf.constant(i)
            )
            expected_total += tf.reduce_sum(update)
    expected = tape.gradient(expected_total, watched)
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    assert len(received) == len(expected)
    for a, b in zip(received, expected, strict=True):
        largest = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest)
        assert largest > 0


def test_coordinates_without_finite_gradient_stay(loaded_rule):
    loaded, _ = loaded_rule
    gradients = tf.constant([[1.0, 2.0], [np.nan, 3.0], [-1.0, np.inf]])
    state = loaded.initial_state(2)
    _, first = loaded.update(gradients[0], state)
    update, second = loaded.update(gradients[1], first)
    assert update[0] == 0 and update[1] != 0
    for name in set(first) - {"iteration", "seen"}:
        np.testing.assert_array_equal(second[name][..., 0], first[name][..., 0])
        assert np.abs(second[name][..., 1] - first[name][..., 1]).max() > 0
    update, _ = loaded.update(gradients[2], second)
    assert update[0] != 0 and update[1] == 0


def test_coordinates_without_any_gradient_stay(loaded_rule):
    loaded, _ = loaded_rule
    state = loaded.initial_state(3)
    for gradient in ([0.0, 1.0, 0.0], [0.0, 0.0, np.nan], [0.0, 0.0, 0.0]):
        update, state = loaded.update(tf.constant(gradient), state)
        np.testing.assert_array_equal(update != 0, [False, True, False])
    for name in set(state) - {"iteration", "seen"}:
        assert not np.any(state[name][..., 0])
        assert np.any(state[name][..., 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(),
        lambda: keras_l2l.LearnedOptimizer(
            rule=rules.Partition([], rules.SGD())
        ),
    ],
    ids=["adam", "partition"],
)
def test_only_coordinatewise_rules_are_exported(tmp_path, make):
    with pytest.raises(ValueError, match="CoordinatewiseRule.*Received"):
        export.export_update_rule(make(), tmp_path / "rule")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="new or empty"):
        export.export_update_rule(keras_l2l.LearnedOptimizer(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
