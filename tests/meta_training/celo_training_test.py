"""Celo under all that `fit` and meta-training do with a rule."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves
from conftest import slow_but

import keras_l2l
from keras_l2l import estimators
from keras_l2l import export
from keras_l2l import meta_training
from keras_l2l import rules
from keras_l2l import tasks

X = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)
both = pytest.mark.parametrize(
    "rule", slow_but([rules.Celo], [rules.Celo, rules.CeloAdam])
)
# CeloAdam is the schedule of Celo for Adam.
every = pytest.mark.parametrize(
    "rule", slow_but([rules.Celo2], [rules.Celo, rules.Celo2])
)


def classifier(rule):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        keras_l2l.LearnedOptimizer(100.0, rule=rule(num_steps=6)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, epochs=1):
    history = model.fit(
        X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history["loss"]


def test_from_preset_tells_members_the_length(tmp_path):
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.Partition([("bias", rules.Celo())], rules.CeloAdam())
    )
    optimizer.save_to_preset(tmp_path / "preset")
    loaded = keras_l2l.LearnedOptimizer.from_preset(
        tmp_path / "preset", num_steps=7
    )
    ((_, member),) = loaded.rule.members
    assert (member.num_steps, loaded.rule.default.num_steps) == (7, 7)
    # Other rules do not depend on it.
    plain, told = (
        keras_l2l.LearnedOptimizer.from_preset("l2l_digits_mlp", **arguments)
        for arguments in ({}, {"num_steps": 7})
    )
    assert told.rule.get_config() == plain.rule.get_config()


@every
def test_saving_and_going_on(rule, tmp_path):
    uninterrupted = classifier(rule)
    losses = fit(uninterrupted, epochs=2)
    assert losses[1] != losses[0]
    model = classifier(rule)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rule.num_steps == 6
    export.export_training_step(loaded, tmp_path / "exported", (X[:8], Y[:8]))
    fit(loaded)
    expected = leaves(uninterrupted.get_weights())
    for a, b in zip(leaves(loaded.get_weights()), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    # As SavedModel, without this package.
    exported = tf.saved_model.load(tmp_path / "exported")
    for start in range(0, 24, 8):
        batch = slice(start, start + 8)
        exported.train_step(tf.constant(X[batch]), tf.constant(Y[batch]))
    for a, b in zip(exported.model, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@every
def test_replicas_train_as_one_device(rule, strategy):
    alone = classifier(rule)
    fit(alone, epochs=2)
    with strategy.scope():
        mirrored = classifier(rule)
    fit(mirrored, epochs=2)
    moved = 0.0
    for a, b, start in zip(
        mirrored.get_weights(),
        alone.get_weights(),
        classifier(rule).get_weights(),
        strict=True,
    ):
        moved = max(moved, np.abs(b - start).max())
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert moved > 1e-2


@both
def test_meta_training_improves_on_its_start(rule, tmp_path):
    result = keras_l2l.meta_train(
        rule(),
        tasks.Quadratics(4),
        tmp_path / "run",
        horizon=10,
        estimator=estimators.TruncatedBackprop(unroll_length=10),
        meta_optimizer=meta_training.MetaOptimizer(learning_rate=0.05),
        meta_steps=20,
        validation=meta_training.Validation(interval=10, episodes=4),
        verbose=0,
    )
    first, *_, last = result.history["validation"]
    assert last["final_loss"] < 0.7 * first["final_loss"]
    preset = keras_l2l.presets.load_preset(tmp_path / "run" / "preset")
    # Its length was that of the episodes; what is next has another.
    assert preset.rule.num_steps is None
