"""How large the steps of `MLPRule` are, where its network is momentum alone."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import rules
from keras_l2l.rules import moments

RULE = rules.MLPRule()
# Without what is random in it, so that directions have a size of 1.
ZEROS = tf.nest.map_structure(tf.zeros_like, RULE.init_meta_params(0))
MOMENTUM = {**moments.momentum_network(ZEROS), "schedule": ZEROS["schedule"]}
# Steps of 30 parameters, by those of 4,000, relative to parameters.
LARGER = (4000 / 30) ** 0.25
GRADIENTS = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")


def rms(tensor):
    return float(tf.sqrt(tf.reduce_mean(tf.square(tensor))))


def step(
    param,
    state=None,
    iteration=0,
    growth=1.0,
    meta_params=MOMENTUM,
    rule_step=RULE.step,
):
    """Returns the size of one update, and the state after it."""
    gradient = growth * GRADIENTS.ravel()[: param.size]
    gradient = tf.constant(gradient.reshape(param.shape), tf.float32)
    state = RULE.init_state([param.shape]) if state is None else state
    param = tf.constant(param, tf.float32)
    inputs = rules.StepInputs([gradient], [param], None, tf.constant(iteration))
    (update,), state = rule_step(meta_params, inputs, state)
    return rms(update), state


@tf.function(autograph=False)
def _traced(meta_params, gradients, params, iteration, state):
    inputs = rules.StepInputs(gradients, params, None, iteration)
    return RULE.step(meta_params, inputs, state)


def later(state, iteration, growth=1.0):
    """Returns the state of a later iteration, of gradients that have grown."""
    (one,) = state
    since = {**one["growth"], "steps": tf.constant(float(iteration))}
    square = since["square"] / (1 - 0.999) * (1 - 0.999**iteration)
    since["square"] = growth**2 * square
    larger = {
        **one["moments"],
        "m": growth * one["moments"]["m"],
        "r": growth**2 * one["moments"]["r"],
    }
    return [{**one, "moments": larger, "growth": since}]


@pytest.mark.parametrize(
    "param, scale",
    [
        (np.full((6, 5), 0.5), 0.5 * LARGER),
        (np.full((3, 2, 5), 2.0), 2.0 * LARGER),
        # What starts at 0 moves.
        (np.zeros((6, 5)), 0.01 * LARGER),
        # Biases and scales, of whatever size.
        (np.zeros(30), 0.1),
        (np.ones(30), 0.1),
    ],
    ids=["matrix", "convolution", "zeros", "bias", "scale"],
)
def test_steps_are_relative_to_parameters_and_decay(param, scale):
    first, state = step(param)
    assert first == pytest.approx(0.01 / np.sqrt(1.01) * scale, rel=1e-3)
    # Until step 1,000.
    for iteration, decay in ((99, 2), (999, 11), (9999, 11)):
        late, _ = step(param, later(state, iteration), iteration)
        assert late / first == pytest.approx(np.sqrt(1.01 / decay), rel=0.02)


def test_steps_of_larger_matrices_are_smaller():
    small, _ = step(np.full((3, 2), 0.5))
    large, _ = step(np.full((6, 4), 0.5))
    assert small / large == pytest.approx(np.sqrt(2), rel=0.02)
    # Biases do not act by more where there are more of them.
    small, _ = step(np.zeros(2))
    large, _ = step(np.zeros(30))
    assert small == pytest.approx(large, rel=0.02)


def test_steps_do_not_grow_with_what_they_make_larger():
    param = np.full((6, 5), 0.5)
    _, state = step(param)
    same, _ = step(param, state, iteration=1)
    grown, _ = step(100 * param, state, iteration=1)
    assert grown == pytest.approx(same, rel=1e-5)
    fresh, _ = step(100 * param, iteration=1)
    assert fresh == pytest.approx(100 * same, rel=0.02)


@pytest.mark.parametrize(
    "growth, factor",
    [(1.0, 1.0), (4.0, 2.0), (0.25, 0.5), (1e4, 10**0.5), (1e-3, 0.1)],
)
def test_steps_are_larger_where_gradients_have_grown(growth, factor):
    param = np.full((6, 5), 0.5)
    _, state = step(param)
    same, _ = step(param, later(state, 2000), iteration=2000)
    grown, after = step(param, later(state, 2000, growth), 2000, growth)
    assert grown / same == pytest.approx(factor, rel=0.02)
    # Against early gradients still, not against those that have grown.
    again, _ = step(param, after, 2001, growth)
    assert again == pytest.approx(grown, rel=0.02)


def test_gradients_are_compared_with_all_of_the_first_100_steps():
    param = np.full((6, 5), 0.5)
    first, state = step(param)
    grown, _ = step(param, later(state, 99, growth=4.0), 99, growth=4.0)
    assert grown / first == pytest.approx(np.sqrt(1.01 / 2), rel=0.02)


def test_the_schedule_changes_magnitudes():
    param = np.full((6, 5), 0.5)
    kernel = np.zeros(MOMENTUM["schedule"]["kernel"].shape, "float32")
    # Of the signal for 1,000 steps.
    kernel[6] = 0.5
    meta_params = {**MOMENTUM, "schedule": {"kernel": tf.constant(kernel)}}
    without, state = step(param)
    learned, _ = step(param, meta_params=meta_params)
    expected = np.exp(5 * np.tanh(0.5 * np.tanh(1 / 1000 - 1) / 5))
    assert learned / without == pytest.approx(expected, rel=1e-3)
    state = later(state, 999)
    without, _ = step(param, state, 999)
    learned, _ = step(param, state, 999, meta_params=meta_params)
    assert learned == pytest.approx(without, rel=1e-3)


@pytest.mark.parametrize("zeros", [0, 200])
def test_a_state_that_is_newer_than_the_training_has_not_grown(zeros):
    param, state = np.full((6, 5), 0.5), None

    def rule_step(meta_params, inputs, state):
        # Traced: there are hundreds of steps.
        return _traced(
            meta_params,
            inputs.gradients,
            inputs.params,
            inputs.iteration,
            state,
        )

    take = functools.partial(step, param, rule_step=rule_step)
    for i in range(zeros):
        size, state = take(state, 5000 + i, growth=0.0)
        assert size == 0
    first, state = take(state, 5000 + zeros)
    for i in range(1, 300):
        size, state = take(state, 5000 + zeros + i)
    (one,) = state
    assert float(one["growth"]["steps"]) == 300
    assert size / first == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("rows, steps", [(0, 1), (2, 2), (6, 2)])
def test_only_steps_with_a_gradient_count_for_growth(rows, steps):
    param = tf.fill((6, 5), 0.5)
    _, state = step(np.full((6, 5), 0.5))
    mask = tf.constant(np.arange(6)[:, None] < np.full(5, rows))
    inputs = rules.StepInputs(
        [tf.constant(GRADIENTS)], [param], None, tf.constant(1), mask=[mask]
    )
    _, (after,) = RULE.step(MOMENTUM, inputs, state)
    assert float(after["growth"]["steps"]) == steps
    was, is_now = (float(s["growth"]["square"]) for s in (state[0], after))
    assert (is_now == was) == (rows == 0)
