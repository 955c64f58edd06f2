"""What loss a rule sees: under `fit`, in custom loops, on replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l import rules

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@keras.saving.register_keras_serializable(package="tests")
class ByLoss(rules.UpdateRule):
    """Its update is the loss, everywhere."""

    uses_loss = True

    def init_meta_params(self, seed):
        return {}

    def init_state(self, shapes):
        return {}

    def step(self, meta_params, inputs, state):
        return [0 * g + inputs.loss for g in inputs.gradients], state


class Scale(keras.layers.Layer):
    """Multiplies by a weight, from 0 on."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="zeros")

    def call(self, inputs):
        return self.scale * keras.ops.sum(inputs, axis=1, keepdims=True)


def regression(optimizer=None, **arguments):
    model = keras.Sequential([keras.Input((3,)), Scale()])
    model.compile(
        optimizer or keras_l2l.LearnedOptimizer(rule=ByLoss()),
        "mse",
        **arguments,
    )
    return model


def expected_after(batches):
    """Returns the weight after batches of the data, by hand."""
    scale = 0.0
    for batch in np.split(Y, batches):
        scale += np.mean((scale * batch - batch) ** 2)
    return scale


def fit(model, batches=2):
    model.fit(X, Y, batch_size=8 // batches, shuffle=False, verbose=0)
    return float(model.get_weights()[0])


@pytest.mark.parametrize(
    "execution",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 2},
    ],
    ids=str,
)
def test_fit(execution):
    received = fit(regression(**execution))
    assert received == pytest.approx(expected_after(2), rel=1e-5)


def test_scaled_losses_are_seen_unscaled():
    optimizer = keras_l2l.LearnedOptimizer(rule=ByLoss(), loss_scale_factor=64)
    received = fit(regression(optimizer))
    assert received == pytest.approx(expected_after(2), rel=1e-5)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras_l2l.LearnedOptimizer(rule=ByLoss()), initial_scale=64.0
    )
    received = fit(regression(optimizer))
    assert received == pytest.approx(expected_after(2), rel=1e-5)


def test_replicas_see_the_loss_of_the_whole_batch(strategy):
    with strategy.scope():
        model = regression()
    received = fit(model)
    assert received == pytest.approx(expected_after(2), rel=1e-5)


def test_accumulated_gradients_are_updated_with_the_last_loss():
    optimizer = keras_l2l.LearnedOptimizer(
        rule=ByLoss(), gradient_accumulation_steps=2
    )
    received = fit(regression(optimizer))
    assert received == pytest.approx(np.mean(Y[4:] ** 2), rel=1e-5)


def test_custom_loops():
    optimizer = keras_l2l.LearnedOptimizer(rule=ByLoss())
    variable = keras.Variable(1.0)
    with pytest.raises(
        ValueError, match=r"loss = optimizer.scale_loss\(loss\)"
    ):
        optimizer.apply([tf.constant(1.0)], [variable])
    assert float(optimizer.scale_loss(tf.constant(2.0))) == 2.0
    optimizer.apply([tf.constant(1.0)], [variable])
    assert float(variable) == 3.0
    # A loss is for one update.
    with pytest.raises(ValueError, match="must see the loss of each step"):
        optimizer.apply([tf.constant(1.0)], [variable])
    # Others need none.
    keras_l2l.LearnedOptimizer().apply([tf.constant(1.0)], [variable])


def test_a_partition_shows_the_loss_to_its_members():
    rule = rules.Partition([("b", ByLoss())], default=rules.SGD(0.5))
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    a, b = keras.Variable(1.0, name="a"), keras.Variable(1.0, name="b")
    optimizer.scale_loss(tf.constant(3.0))
    optimizer.apply([tf.constant(1.0), tf.constant(1.0)], [a, b])
    assert (float(a), float(b)) == (0.5, 4.0)
