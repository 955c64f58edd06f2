"""`LearnedOptimizer` under `tf.distribute`: as on one device, or as Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves

import keras_l2l

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)


def classifier(**arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="sigmoid"),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        keras_l2l.LearnedOptimizer(0.1, **arguments),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.fixture
def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.mark.parametrize(
    "arguments", [{}, {"clipnorm": 0.5, "weight_decay": 0.01}], ids=str
)
def test_mirrored_strategy_equals_one_device(strategy, arguments):
    one = classifier(**arguments)
    with strategy.scope():
        two = classifier(**arguments)
    for model in (one, two):
        model.fit(X, Y, batch_size=32, epochs=5, shuffle=False, verbose=0)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert np.abs(two.get_weights()[0]).max() > 0
    assert two.optimizer.iterations.numpy() == 10
    for variable in [*two.trainable_variables, *two.optimizer.variables]:
        first, second = leaves(
            list(strategy.experimental_local_results(variable.value))
        )
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "make", [keras_l2l.LearnedOptimizer, keras.optimizers.Adam]
)
def test_optimizer_made_outside_the_scope_raises(strategy, make):
    optimizer = make()
    with strategy.scope():
        variable = keras.Variable(np.ones(3, "float32"))
        with pytest.raises(RuntimeError, match="Mixing different"):
            optimizer.build([variable])
