"""A rule that leaves as SavedModel takes its steps in plain TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM
from plain_tensorflow import in_plain_tensorflow

import keras_l2l
from keras_l2l import export
from keras_l2l import rules
from keras_l2l.utils import nests

RNG = np.random.default_rng(0)
UPDATES = """
results = {}
for rule in ("lstm", "adam"):
    loaded = tf.saved_model.load(rule)
    for n in (1, 7, 1000):
        params = tf.ones(n)
        state = loaded.signatures["initial_state"](n=tf.constant(n))
        for gradient in data[str(n)]:
            result = loaded.signatures["update"](
                gradient=tf.constant(gradient), **state
            )
            params += result.pop("update")
            state = result
        assert int(state["iteration"]) == 3
        results[f"{rule}_{n}"] = params
np.savez("results.npz", **results)
"""


def train_vector(optimizer, gradients):
    """Returns what an optimizer makes of a vector of ones."""
    params = keras.Variable(np.ones(gradients.shape[1], "float32"))
    optimizer.build([params])

    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [params])
    return params.numpy()


def train_vector_by_rule(optimizer, gradients):
    """Trains like `train_vector`, by the rule instead of the optimizer."""
    rule = optimizer.rule
    meta_params = keras.tree.map_structure(
        tf.convert_to_tensor, optimizer.meta_params
    )
    step = tf.function(rule.masked_coordinate_step, jit_compile=True)
    params = tf.ones(gradients.shape[1])
    state = rule.init_coordinate_state(gradients.shape[1])
    for i, gradient in enumerate(gradients):
        mask = tf.ones(gradient.shape, tf.bool)
        update, state = step(
            meta_params, tf.constant(gradient), state, tf.constant(i), mask
        )
        params += update
    return params


def test_updates_without_keras(tmp_path):
    gradients = {n: RNG.normal(size=(3, n)) for n in (1, 7, 1000)}
    gradients = {n: g.astype("float32") for n, g in gradients.items()}
    optimizers = {
        "lstm": lambda: keras_l2l.LearnedOptimizer(rule=LSTM),
        "adam": lambda: keras_l2l.LearnedOptimizer(rule=rules.Adam(0.1)),
    }
    for name, make in optimizers.items():
        export.export_update_rule(make(), tmp_path / name)
    results = in_plain_tensorflow(
        UPDATES, tmp_path, **{str(n): g for n, g in gradients.items()}
    )
    for name, make in optimizers.items():
        for n in gradients:
            received = results[f"{name}_{n}"]
            np.testing.assert_array_equal(
                received, train_vector_by_rule(make(), gradients[n])
            )
            # XLA may round a larger program differently.
            expected = train_vector(make(), gradients[n])
            np.testing.assert_allclose(received, expected, rtol=0, atol=1e-6)
            assert (expected != 1).all()


@pytest.fixture
def loaded_rule(tmp_path):
    """An exported LSTM, loaded, and its optimizer."""
    optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
    export.export_update_rule(optimizer, tmp_path / "rule")
    return tf.saved_model.load(tmp_path / "rule"), optimizer


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
