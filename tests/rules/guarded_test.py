"""When a guarded rule hands over, and to what."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves

import keras_l2l
from keras_l2l import rules
from keras_l2l import tasks

TASK = tasks.Quadratic(tf.linalg.diag([1.0, 0.5]), tf.zeros(2))
START = [tf.constant([1.0, -1.0])]
FALLBACK = rules.Adam(0.05)


def trajectory(rule, steps, loss=True, start=START, added=0.0):
    """Returns the parameters after each step, and the last state."""
    params, state = start, rule.init_state([(2,)])
    meta_params, found = rule.init_meta_params(0), []
    for t in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(params)
            value = TASK.loss(params, ())
        inputs = rules.StepInputs(
            tape.gradient(value, params),
            params,
            value + added if loss else None,
            tf.constant(t),
        )
        updates, state = rule.step(meta_params, inputs, state)
        params = [p + u for p, u in zip(params, updates, strict=True)]
        found.append(params[0].numpy())
    return np.stack(found), state


@pytest.mark.parametrize("loss", [True, False], ids=["loss", "no_loss"])
def test_a_rule_that_pays_is_left_alone(loss):
    good = rules.SGD(0.01)
    guarded, state = trajectory(rules.Guarded(good, FALLBACK, 5), 60, loss)
    expected, _ = trajectory(good, 60)
    np.testing.assert_allclose(guarded, expected, rtol=1e-6)
    assert float(state["monitor"]["handed_over"]) == 0
    assert rules.Guarded(good).remarks(state) == []


@pytest.mark.parametrize("loss", [True, False], ids=["loss", "no_loss"])
def test_a_rule_that_does_not_pay_is_replaced(loss):
    bad = rules.SGD(1.2)  # Diverges along the first coordinate.
    rule = rules.Guarded(bad, FALLBACK, 5)
    guarded, state = trajectory(rule, 200, loss)
    step = int(state["monitor"]["handed_over"])
    assert 5 < step < 30
    # Back to where the loss was lowest, which is where it began.
    np.testing.assert_allclose(guarded[step - 1], START[0], atol=1e-6)
    assert float(TASK.loss([guarded[-1]], ())) < 1e-3
    alone, _ = trajectory(bad, step - 1)
    np.testing.assert_allclose(guarded[: step - 1], alone, rtol=1e-5)
    assert f"SGD handed over to Adam at step {step}" in rule.remarks(state)[0]


class _Turning(rules.CoordinatewiseRule):
    """Descends for 30 steps, and ascends then."""

    def __init__(self, rate):
        self.rate = rate

    def init_meta_params(self, seed):
        return {}

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        rate = tf.where(iteration < 30, self.rate, -0.3)
        return -rate * gradient, state


def test_the_fallback_goes_on_from_the_lowest():
    rule = rules.Guarded(_Turning(0.1), FALLBACK, 3)
    path, state = trajectory(rule, 80)
    step = int(state["monitor"]["handed_over"])
    assert 33 < step < 60
    # It has seen what was there up to the lowest, and nothing since.
    low = int(np.argmin(np.abs(path[: step - 1] - path[step - 1]).sum(1)))
    np.testing.assert_allclose(path[low], path[step - 1], rtol=1e-5)
    assert 25 < low < 40
    # Counted from 1, and after it.
    assert f"at step {low + 2}, where it" in rule.remarks(state)[0]
    points = [START[0], *path[: low + 1], *path[step - 1 :]]
    fallback = FALLBACK.init_state([(2,)])
    for t, point in enumerate(points[:-1]):
        params = [tf.constant(point)]
        with tf.GradientTape() as tape:
            tape.watch(params)
            value = TASK.loss(params, ())
        inputs = rules.StepInputs(
            tape.gradient(value, params), params, value, tf.constant(t)
        )
        updates, fallback = FALLBACK.step(
            FALLBACK.init_meta_params(0), inputs, fallback
        )
        if t > low + 1:
            np.testing.assert_allclose(
                points[t + 1], point + updates[0], rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize(
    "rate, loss, added",
    # A fifth of the loss at first; and what would be less than a tenth.
    [(0.035, True, 0.0), (0.1, False, 0.0), (0.1, True, -2.0)],
    ids=["a_fifth", "no_loss", "negative"],
)
def test_the_fallback_starts_again_if_the_lowest_is_not_low(rate, loss, added):
    rule = rules.Guarded(_Turning(rate), FALLBACK, 3)
    path, state = trajectory(rule, 80, loss, added=added)
    step = int(state["monitor"]["handed_over"])
    assert 33 < step < 60
    np.testing.assert_allclose(path[step - 1], START[0], rtol=1e-6)
    assert "at step 1, the start" in rule.remarks(state)[0]
    # As from the start: all gradients it has seen are those of there.
    alone, _ = trajectory(FALLBACK, 1)
    np.testing.assert_allclose(path[step], alone[0], rtol=1e-4)
    assert float(TASK.loss([path[-1]], ())) < 0.05


def test_before_the_first_loss_nothing_is_taken_back():
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    inputs = rules.StepInputs(
        [tf.ones(2)], START, tf.constant(float("nan")), tf.constant(0)
    )
    updates, state = rule.step(
        rule.init_meta_params(0), inputs, rule.init_state([(2,)])
    )
    np.testing.assert_allclose(updates[0], [-0.01, -0.01], rtol=1e-6)
    assert float(state["monitor"]["handed_over"]) == 0


class _NotFinite(rules.CoordinatewiseRule):
    def init_meta_params(self, seed):
        return {}

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        return gradient * float("nan"), state


def test_updates_that_are_not_finite_are_the_fallbacks():
    guarded, _ = trajectory(rules.Guarded(_NotFinite(), FALLBACK), 5)
    expected, _ = trajectory(FALLBACK, 5)
    np.testing.assert_allclose(guarded, expected, rtol=1e-6)


def test_a_loss_that_is_not_finite_hands_over():
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    state = rule.init_state([(2,)])
    for t, loss in enumerate((1.0, float("nan"), 1.0)):
        inputs = rules.StepInputs(
            [tf.ones(2)], START, tf.constant(loss), tf.constant(t)
        )
        _, state = rule.step(rule.init_meta_params(0), inputs, state)
    assert float(state["monitor"]["handed_over"]) == 2


def test_fit_tells_of_it_once(caplog):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    rule = rules.Guarded(rules.SGD(2.0), rules.Adam(0.1), patience=5)
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), "mse")
    x = np.random.default_rng(0).normal(size=(64, 3))
    with caplog.at_level(logging.WARNING, "keras_l2l"):
        model.fit(x, x @ [[1.0], [2.0], [3.0]], epochs=60, verbose=0)
        model.fit(x, x @ [[1.0], [2.0], [3.0]], epochs=1, verbose=0)
    assert caplog.text.count("SGD handed over to Adam at step") == 1
    assert model.evaluate(x, x @ [[1.0], [2.0], [3.0]], verbose=0) < 0.1


def test_rules_survive_serialization():
    rule = rules.Guarded(rules.RNNprop((3,)), rules.Momentum(0.1), 7)
    again = rules.deserialize(rules.serialize(rule))
    assert again.get_config() == rule.get_config()
    assert again.patience == 7


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("adam",), r"`rule` must be .* call keras_l2l\.presets\.guarded"),
        ((rules.SGD(), "adam"), "`fallback` must be"),
        ((rules.SGD(), rules.Adam(), 0), "`patience` must be"),
    ],
    ids=["rule", "fallback", "patience"],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        rules.Guarded(*arguments)


def test_a_preset_behind_a_guard():
    plain = keras_l2l.presets.load_preset("l2l_digits_mlp")
    preset = keras_l2l.presets.guarded("l2l_digits_mlp", FALLBACK, 7)
    assert preset.horizon is None
    assert preset.rule.patience == 7
    for a, b in zip(
        leaves(preset.meta_params["rule"]),
        leaves(plain.meta_params),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    optimizer = keras_l2l.LearnedOptimizer(rule=preset)
    assert type(optimizer.rule) is rules.Guarded
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.rule.get_config() == preset.rule.get_config()
    with pytest.raises(ValueError, match="`meta_params` need a `rule`"):
        keras_l2l.LearnedOptimizer(rule=preset, meta_params={})
