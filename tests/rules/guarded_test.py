"""When a guarded rule hands over, and to what."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_close
from conftest import assert_same
from conftest import dense_model
from conftest import leaves

import keras_l2l
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.rules.updates import apply_updates

TASK = tasks.Quadratic(tf.linalg.diag([1.0, 0.5]), tf.zeros(2))
START = [tf.constant([1.0, -1.0])]
FALLBACK = rules.Adam(0.05)


def trajectory(rule, steps, loss=True, start=START, added=0.0):
    """Returns the parameters after each step, and the last state."""
    params, state = start, rule.init_state([(2,)])
    meta_params, found = rule.init_meta_params(0), []

    def step(params, state, t):
        with tf.GradientTape() as tape:
            tape.watch(params)
            value = TASK.loss(params, ())
        inputs = rules.StepInputs(
            tape.gradient(value, params),
            params,
            value + added if loss else None,
            t,
        )
        updates, state = rule.step(meta_params, inputs, state)
        return apply_updates(rule, params, updates, state), state

    if steps > 30:
        step = tf.function(step, autograph=False)
    for t in range(steps):
        params, state = step(params, state, tf.constant(t))
        found.append(params[0].numpy())
    return np.stack(found), state


@pytest.mark.parametrize("loss", [True, False], ids=["loss", "no_loss"])
def test_a_rule_that_pays_is_left_alone(loss):
    good = rules.SGD(0.01)
    guarded, state = trajectory(rules.Guarded(good, FALLBACK, 5), 60, loss)
    expected, _ = trajectory(good, 60)
    np.testing.assert_allclose(guarded, expected, rtol=1e-6)
    assert float(state["monitor"]["handed_over"]) == 0
    assert rules.Guarded(good).remarks(state, 0) == []


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
    (remark,) = rule.remarks(state, 0)
    assert f"SGD handed over to Adam at step {step}" in remark


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
    assert f"at step {low + 2}, where the loss" in rule.remarks(state, 0)[0]
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
    assert "at step 1, the start" in rule.remarks(state, 0)[0]
    # As from the start: all gradients it has seen are those of there.
    alone, _ = trajectory(FALLBACK, 1)
    np.testing.assert_allclose(path[step], alone[0], rtol=1e-4)
    assert float(TASK.loss([path[-1]], ())) < 0.05


def step_with(rule, state, t, loss, gradient, param=None, mask=None):
    """Returns the parameters after one step, and the state."""
    params = START if param is None else [tf.constant(param)]
    loss = None if loss is None else tf.constant(loss)
    inputs = rules.StepInputs(
        [tf.constant(gradient)], params, loss, tf.constant(t), mask
    )
    updates, state = rule.step(rule.init_meta_params(0), inputs, state)
    return apply_updates(rule, params, updates, state)[0].numpy(), state


NAN = float("nan")


def test_a_loss_that_is_not_finite_at_first_is_nothing_to_keep_from():
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    state = rule.init_state([(2,)])
    param, state = step_with(rule, state, 0, NAN, [1.0, 1.0])
    np.testing.assert_allclose(param, START[0] - 0.01, rtol=1e-6)
    assert float(state["monitor"]["handed_over"]) == 0
    # The start is kept all the same.
    np.testing.assert_array_equal(state["kept"]["params"][0], START[0])


def test_a_low_loss_of_the_first_batch_is_no_low():
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK, 30)
    state = rule.init_state([(2,)])
    for t, loss in enumerate([0.01, *np.geomspace(1, 0.5, 49)]):
        _, state = step_with(rule, state, t, np.float32(loss), [1.0, 1.0])
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


BAD = {
    "loss": {"loss": NAN, "gradient": [1.0, 1.0]},
    "gradient": {"loss": None, "gradient": [NAN, NAN]},
    "param": {"loss": 1.0, "gradient": [1.0, 1.0], "param": [NAN, 1.0]},
    "param, no loss": {
        "loss": None,
        "gradient": [1.0, 1.0],
        "param": [1.0, float("inf")],
    },
    "far": {"loss": 1.0, "gradient": [1.0, 1.0], "param": [1.0, -2e7]},
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("times", [1, 9, 10])
def test_it_hands_over_when_steps_stay_bad(kind, times):
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    state, bad = rule.init_state([(2,)]), BAD[kind]
    good = {**bad, "loss": bad["loss"] and 1.0, "gradient": [1.0, 1.0]}
    good.pop("param", None)
    mask = [tf.math.is_finite(bad["gradient"])]
    _, state = step_with(rule, state, 0, **good)
    for t in range(1, times + 1):
        param, state = step_with(rule, state, t, **bad, mask=mask)
    if times == 10:
        np.testing.assert_array_equal(param, START[0])
    param, state = step_with(rule, state, times + 1, **good)
    assert float(state["monitor"]["handed_over"]) == (11 if times == 10 else 0)
    # As from the start: of the bad steps the fallback has seen nothing.
    expected, _ = step_with(FALLBACK, FALLBACK.init_state([(2,)]), 0, **good)
    if times == 10:
        np.testing.assert_allclose(param, expected, rtol=1e-5)
        assert "10 steps in a row" in rule.remarks(state, 0)[0]
    for leaf in leaves(state):
        assert np.isfinite(leaf).all()


def test_some_coordinates_without_a_gradient_are_no_divergence():
    # As of the norm of a vector that is 0.
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    state = rule.init_state([(2,)])
    for t in range(20):
        mask = [tf.constant([False, True])]
        _, state = step_with(rule, state, t, None, [NAN, 1.0], mask=mask)
    assert float(state["monitor"]["handed_over"]) == 0


@pytest.mark.parametrize("loss", [1.0, None], ids=["loss", "no_loss"])
def test_the_state_stays_finite_and_the_fallback_usable(loss):
    rule = rules.Guarded(_NotFinite(), FALLBACK)
    state = rule.init_state([(2,)])
    # Its square is infinite.
    for t, gradient in enumerate([1.0, 1e30, -1e38, 1.0]):
        step_loss = loss and [1.0, 1e38, NAN, 1.0][t]
        _, state = step_with(rule, state, t, step_loss, [gradient, 1.0])
        for leaf in leaves(state):
            assert np.isfinite(leaf).all()
    # Two steps of it were of no use.
    expected = FALLBACK.init_state([(2,)])
    for t in (0, 3):
        _, expected = step_with(FALLBACK, expected, t, loss, [1.0, 1.0])
    assert_close(state["fallback"]["state"], expected, rtol=1e-5)


def noisy_quadratic(rule, steps, noise=1.0):
    """Returns the state after steps without a loss, and the parameters."""
    rng, state = np.random.default_rng(0), rule.init_state([(2,)])
    curvature, meta_params = tf.constant([1.0, 0.1]), rule.init_meta_params(0)

    @tf.function(autograph=False)
    def step(params, state, t, noise):
        inputs = rules.StepInputs(
            [curvature * params[0] + noise], params, None, t
        )
        updates, state = rule.step(meta_params, inputs, state)
        return apply_updates(rule, params, updates, state), state

    params = START
    for t in range(steps):
        drawn = tf.constant(noise * rng.normal(size=2), tf.float32)
        params, state = step(params, state, tf.constant(t), drawn)
    return state, params[0].numpy()


@pytest.mark.parametrize(
    "rule, noise",
    [
        (rules.SGD(0.1), 1.0),
        (rules.SGD(1.9), 1.0),
        (rules.SGD(1.9), 0.0),
        (rules.Momentum(0.3), 1.0),
        (rules.Adam(0.1), 1.0),
    ],
    ids=["sgd", "sgd_at_the_edge", "sgd_without_noise", "momentum", "adam"],
)
def test_without_a_loss_it_does_not_hand_over_on_noise(rule, noise):
    state, _ = noisy_quadratic(rules.Guarded(rule, FALLBACK), 400, noise)
    assert float(state["monitor"]["handed_over"]) == 0


def test_without_a_loss_it_hands_over_on_a_divergence():
    # Above 2 the steps on the first coordinate grow.
    rule = rules.Guarded(rules.SGD(2.05), FALLBACK)
    state, params = noisy_quadratic(rule, 400, 0.01)
    assert 100 < float(state["monitor"]["handed_over"]) < 150
    assert np.abs(params).max() < 0.5


def test_guards_within_guards():
    bad = rules.SGD(1.2)
    patient = rules.Guarded(rules.Guarded(bad, FALLBACK, 5), FALLBACK, 60)
    path, state = trajectory(patient, 60)
    # The inner one alone.
    step = int(state["rule"]["monitor"]["handed_over"])
    assert 5 < step < 30
    assert float(state["monitor"]["handed_over"]) == 0
    np.testing.assert_array_equal(path[step - 1], START[0])
    assert len(patient.remarks(state, 0)) == 1
    # Then what takes over is a guarded one, and diverges.
    rule = rules.Guarded(bad, rules.Guarded(rules.SGD(1.3), FALLBACK, 5), 5)
    path, state = trajectory(rule, 100)
    back = np.flatnonzero((path == START[0].numpy()).all(axis=1)) + 1
    first, second = back.tolist()
    assert first == int(state["monitor"]["handed_over"])
    # The inner one's clock went back to the start with it.
    inner = state["fallback"]["state"]["monitor"]
    assert second == first + int(inner["handed_over"]) - 1
    assert len(rule.remarks(state, 0)) == 2
    assert np.abs(path[-1]).max() < 0.1


def test_a_guard_in_a_partition_sets_back_its_own_variables():
    guard = rules.Guarded(rules.SGD(1e25), FALLBACK)
    rule = rules.Partition([("a", guard)], default=rules.SGD(0.5))
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    a = keras.Variable([2.0, 3.0], name="a")
    b = keras.Variable([1.0, -1.0], name="b")
    for t in range(11):
        gradient = tf.fill([2], 1.0 if t == 0 else NAN)
        optimizer.scale_loss(gradient[0])
        optimizer.apply([tf.ones(2), gradient], [b, a])
    np.testing.assert_array_equal(a, [2.0, 3.0])
    np.testing.assert_array_equal(b, [-4.5, -6.5])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"learning_rate": 0.1},
        {"clipnorm": 1e-3},
        {"global_clipnorm": 1e-3},
        {"clipvalue": 1e-3},
    ],
    ids=str,
)
def test_parameters_are_set_back_exactly(arguments):
    rule = rules.Guarded(rules.SGD(1e25), rules.Adam(0.01))
    optimizer = keras_l2l.LearnedOptimizer(rule=rule, **arguments)
    rng = np.random.default_rng(0)
    start = [rng.normal(size=s).astype("float32") for s in ((6, 2), (3,))]
    table, kernel = map(keras.Variable, start)
    for t in range(11):
        # Rows 1 and 4 move and are absent from then on; 5 always is.
        rows, value = ([1, 4], 1.0) if t == 0 else ([0, 2], NAN)
        optimizer.scale_loss(tf.constant(value))
        optimizer.apply(
            [
                tf.IndexedSlices(tf.fill([2, 2], value), rows, [6, 2]),
                tf.fill([3], value),
            ],
            [table, kernel],
        )
        assert (np.abs(table[1]) > 1e15).all() == (t < 10)
    np.testing.assert_array_equal(table, start[0])
    np.testing.assert_array_equal(kernel, start[1])


def test_a_layer_that_is_frozen_is_not_set_back():
    first, last = (keras.Variable(np.ones(2, "float32")) for _ in range(2))
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.Guarded(rules.SGD(0.1), FALLBACK)
    )
    optimizer.scale_loss(1.0)
    optimizer.apply([tf.ones(2), tf.ones(2)], [first, last])
    first.trainable = False
    for _ in range(11):
        optimizer.scale_loss(NAN)
        optimizer.apply([tf.ones(2)], [last])
        if np.all(last.numpy() == 1):
            break
    np.testing.assert_array_equal(last, [1.0, 1.0])
    np.testing.assert_allclose(first, [0.9, 0.9])


def test_the_averages_of_parameters_are_set_back_with_them():
    rule = rules.Guarded(rules.SGD(1e25), rules.SGD(0.0))
    optimizer = keras_l2l.LearnedOptimizer(rule=rule, use_ema=True)
    variable = keras.Variable([2.0, 3.0])
    for t in range(12):
        value = 1.0 if t == 0 else NAN
        optimizer.scale_loss(tf.constant(value))
        optimizer.apply([tf.fill([2], value)], [variable])
    optimizer.finalize_variable_values([variable])
    np.testing.assert_array_equal(variable, [2.0, 3.0])


def test_a_parameter_may_begin_far_away():
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    state, far = rule.init_state([(2,)]), [3e7, 1.0]
    for t in range(120):
        loss = 1.0 - t / 1000
        param, state = step_with(rule, state, t, loss, [1.0, 1.0], far)
    assert float(state["monitor"]["handed_over"]) == 0


@pytest.mark.parametrize("first", [5.0, None], ids=["loss", "no_loss"])
def test_losses_may_come_and_go(first):
    rule = rules.Guarded(rules.SGD(0.01), FALLBACK)
    state = rule.init_state([(2,)])
    for t in range(400):
        # Each falls, from far above the other.
        loss = first if t < 100 else 5.0 if first is None else None
        loss = loss and 100 * loss - t / 10
        _, state = step_with(rule, state, t, loss, [10.0, 10.0])
    assert float(state["monitor"]["handed_over"]) == 0


def test_a_model_comes_back_from_nan(caplog):
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")

    def trained(rule):
        keras.utils.set_random_seed(0)
        model = dense_model(8, 3, inputs=4, activation="relu")
        model.compile(
            keras_l2l.LearnedOptimizer(rule=rule),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
        )
        y = x[:, :3].argmax(axis=1)
        model.fit(x, y, epochs=31, batch_size=64, shuffle=False, verbose=0)
        loss = model.evaluate(x, y, verbose=0)
        model.fit(x, y, batch_size=64, verbose=0)
        return loss

    adam = rules.Adam(0.01)
    alone = trained(adam)
    guarded = trained(rules.Guarded(rules.SGD(1e25), adam))
    # 11 steps later: what is missing is what Adam gains in them.
    assert alone < guarded < alone + 0.3
    # In the first `fit` alone.
    assert caplog.text.count("SGD handed over to Adam at step") == 1
    assert "SGD handed over to Adam at step 11: for 10 steps" in caplog.text
    assert "what they had been at step 1, the start." in caplog.text


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
    assert_same(preset.meta_params["rule"], plain.meta_params)
    optimizer = keras_l2l.LearnedOptimizer(rule=preset)
    assert type(optimizer.rule) is rules.Guarded
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.rule.get_config() == preset.rule.get_config()
    with pytest.raises(ValueError, match="`meta_params` need a `rule`"):
        keras_l2l.LearnedOptimizer(rule=preset, meta_params={})
