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
    # So that nothing is masked, nor kept for it.
    rests_without_gradient = True

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


@pytest.mark.parametrize("execution", [{}, {"run_eagerly": True}], ids=str)
def test_accumulated_gradients_are_updated_with_the_mean_loss(execution):
    optimizer = keras_l2l.LearnedOptimizer(
        rule=ByLoss(), gradient_accumulation_steps=2
    )
    # Two updates; the weight is the same for both losses of each.
    received = fit(regression(optimizer, **execution), batches=4)
    assert received == pytest.approx(expected_after(2), rel=1e-5)


@pytest.mark.parametrize("traced", [False, True])
def test_accumulated_losses_of_a_custom_loop(traced):
    optimizer = keras_l2l.LearnedOptimizer(
        rule=ByLoss(), gradient_accumulation_steps=2
    )
    variable = keras.Variable(0.0)
    optimizer.build([variable])

    def apply(gradient):
        optimizer.apply([gradient], [variable])

    apply = tf.function(apply) if traced else apply
    received = []
    for loss in (1.0, 9.0, 3.0, 5.0):
        optimizer.scale_loss(tf.constant(loss))
        apply(tf.constant(1.0))
        received.append(float(variable))
    assert received == [0.0, 5.0, 5.0, 9.0]


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


SHOW = {
    "eager": lambda show: show,
    "graph": lambda show: tf.function(show),
    "xla": lambda show: tf.function(show, jit_compile=True),
}


@pytest.mark.parametrize("applied", SHOW)
@pytest.mark.parametrize("shown", SHOW)
def test_each_update_sees_its_loss_wherever_it_was_shown(shown, applied):
    optimizer = keras_l2l.LearnedOptimizer(rule=ByLoss())
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    # Neither saved nor counted: iterations, rate and skipped steps are.
    assert len(optimizer.variables) == 3
    show = SHOW[shown](lambda x: optimizer.scale_loss(x * x))
    apply = SHOW[applied](lambda g: optimizer.apply([g], [variable]))
    for x in (1.0, 2.0, 3.0):
        assert float(show(tf.constant(x))) == x * x
        apply(tf.constant(1.0))
    assert float(variable) == 1.0 + 4.0 + 9.0
    if applied == "eager":
        # Also where it was shown in a graph, a loss is for one update.
        with pytest.raises(ValueError, match="must see the loss of each step"):
            apply(tf.constant(1.0))


@pytest.mark.parametrize("shown", ["eager", "graph"])
def test_replicas_see_a_loss_that_was_shown_elsewhere(strategy, shown):
    with strategy.scope():
        optimizer = keras_l2l.LearnedOptimizer(rule=ByLoss())
        variable = keras.Variable(0.0)
        optimizer.build([variable])

    @tf.function
    def apply():
        strategy.run(lambda: optimizer.apply([tf.constant(1.0)], [variable]))

    def show(x):
        def in_replica():
            optimizer.scale_loss(x / 2)

        strategy.run(in_replica)

    show = SHOW[shown](show)
    for x in (1.0, 2.0):
        show(tf.constant(x))
        apply()
    assert variable.numpy() == 3.0


def test_a_guard_does_not_take_back_a_model_by_a_loss_of_the_past():
    # With the first loss for ever, it would have no new low.
    rule = rules.Guarded(rules.SGD(0.1), rules.SGD(0.0), patience=5)
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    variable = keras.Variable(3.0)
    optimizer.build([variable])
    apply = tf.function(lambda g: optimizer.apply([g], [variable]))
    for _ in range(40):
        value = variable.numpy()
        optimizer.scale_loss(tf.constant(value**2))
        apply(tf.constant(2 * value))
    assert float(variable) < 0.01
    assert optimizer.remarks() == []


@pytest.mark.parametrize("first", ["fit", "eager"])
def test_a_loop_may_show_no_loss_after_one_that_did(first):
    def no_loss(optimizer):
        optimizer.apply([tf.constant(1.0)], [variable])

    guard = rules.Guarded(rules.SGD(0.01), rules.Adam())
    optimizer = keras_l2l.LearnedOptimizer(rule=guard)
    if first == "fit":
        model = regression(optimizer)
        fit(model)
        (variable,) = model.trainable_variables
    else:
        variable = keras.Variable(3.0)
        optimizer.scale_loss(tf.constant(2.0))
        no_loss(optimizer)
    start, loop = float(variable), tf.function(no_loss)
    for _ in range(30):
        loop(optimizer)
    assert float(variable) == pytest.approx(start - 0.3, rel=1e-4)
    assert optimizer.remarks() == []
    # What must see it says so, as before.
    needs = keras_l2l.LearnedOptimizer(rule=ByLoss())
    needs.scale_loss(tf.constant(2.0))
    no_loss(needs)
    with pytest.raises(ValueError, match="must see the loss of each step"):
        tf.function(no_loss)(needs)


def test_a_graph_checks_that_a_loss_comes_from_elsewhere():
    optimizer = keras_l2l.LearnedOptimizer(rule=ByLoss())
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    show = tf.function(lambda x: optimizer.scale_loss(x))
    apply = tf.function(lambda g: optimizer.apply([g], [variable]))
    for gradient in (tf.constant(1.0), tf.constant([1.0])[0]):
        show(tf.constant(2.0))
        apply(gradient)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be shown"):
        apply(tf.constant(1.0))
    assert float(variable) == 4.0
    # Traced anew, where nothing tells that one was shown.
    other = tf.function(lambda g: optimizer.apply([g], [variable]))
    show(tf.constant(3.0))
    other(tf.constant(1.0))
    assert float(variable) == 7.0
