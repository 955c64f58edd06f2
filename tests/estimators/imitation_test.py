"""Imitation of a teacher, against its definition."""

import math

import numpy as np
import pytest
import tensorflow as tf
from conftest import float64_quadratic
from conftest import slow_but
from conftest import to_float64

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators import Imitation
from keras_l2l.estimators import TruncatedBackprop

TEACHER = rules.Adam(0.1, 0.8, 0.9, 0.01)
RULES = {
    "lstm": rules.CoordinatewiseLSTM((5, 4)),
    "rnnprop": rules.RNNprop((5,), output_scale=0.2),
    "momentum": rules.Momentum(0.05, 0.8),
    "partition": rules.Partition(
        [("param_0", rules.CoordinatewiseLSTM((5,)))], rules.SGD(0.05)
    ),
    # Not by coordinates, and with a look at the parameters.
    "mlp": rules.MLPRule(),
    "averaging": rules.GlobalAveragingLSTM(),
}
COORDINATEWISE = ("lstm", "rnnprop", "momentum", "partition")


def second_unroll(estimator, meta_params):
    """Returns an episode that is one unroll old, in float64."""
    _, _, episode = estimator.estimate(
        meta_params, to_float64(estimator.init(0)), 0
    )
    return episode


def error_by_definition(
    rule, task, teacher, meta_params, sample=None, second_derivatives=False
):
    """Returns meta_params -> relative error, in the second unroll of 5.

    The gradients are those that the rule sees with `meta_params`, or with
    second derivatives its own, as the parameters are. A sample is of the first
    coordinates of each tensor, so many.
    """
    unroll_length = 5
    carry = (
        TruncatedBackprop(unroll_length=5).bind(rule, task, 10).init(0).carry
    )
    params = to_float64(carry.params)
    shapes = [p.shape for p in params]
    states = [to_float64(r.init_state(shapes)) for r in (rule, teacher)]
    taught_params = to_float64(teacher.init_meta_params(0))
    recorded, taught = [], []
    for t in range(2 * unroll_length):
        if t == unroll_length:
            start, start_params = states[0], params
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss = task.loss(params, ())
        gradients = tape.gradient(loss, params)
        inputs = rules.StepInputs(gradients, params, loss, tf.constant(t))
        updates, states[0] = rule.step(meta_params, inputs, states[0])
        shown, states[1] = teacher.step(taught_params, inputs, states[1])
        recorded.append(inputs)
        taught.append(shown)
        params = [p + u for p, u in zip(params, updates, strict=True)]

    def error(meta_params):
        state, params, difference, norm = start, start_params, 0.0, 0.0
        for t in range(unroll_length, 2 * unroll_length):
            inputs = recorded[t]._replace(params=params)
            if second_derivatives:
                with tf.GradientTape() as tape:
                    tape.watch(params)
                    loss = task.loss(params, ())
                gradients = tape.gradient(loss, params)
                inputs = inputs._replace(gradients=gradients)
            updates, state = rule.step(meta_params, inputs, state)
            params = [p + u for p, u in zip(params, updates, strict=True)]
            for u, s in zip(updates, taught[t], strict=True):
                u, s = tf.reshape(u, [-1]), tf.reshape(s, [-1])
                difference += tf.reduce_mean((u - s)[:sample] ** 2) * len(u)
                norm += tf.reduce_mean(s[:sample] ** 2) * len(s)
        return difference / norm

    return error


@pytest.mark.parametrize(
    "name, second_derivatives",
    [
        ("lstm", False),
        ("momentum", True),
        *(
            pytest.param(name, False, marks=pytest.mark.slow)
            for name in RULES
            if name != "lstm"
        ),
    ],
)
def test_loss_and_gradient_are_those_of_the_definition(
    name, second_derivatives
):
    task = float64_quadratic(n=6)
    rule = RULES[name].for_variables(task.variables())
    meta_params = to_float64(rule.init_meta_params(0))
    results = []
    for estimator in (
        TruncatedBackprop(
            unroll_length=5, second_derivatives=second_derivatives
        ),
        Imitation(
            unroll_length=5,
            second_derivatives=second_derivatives,
            teacher=TEACHER,
            imitation_weight=3.0,
        ),
    ):
        estimator = estimator.bind(rule, task, 10)
        episode = second_unroll(estimator, meta_params)
        results.append(estimator.estimate(meta_params, episode, 0))
    plain, taught = results
    error = error_by_definition(
        rule,
        task,
        TEACHER,
        meta_params,
        second_derivatives=second_derivatives,
    )
    flat = tf.nest.flatten(meta_params)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        expected = error(tf.nest.pack_sequence_as(meta_params, flat))
    assert float(expected) > 0.01
    np.testing.assert_allclose(taught[1] - plain[1], 3 * expected, rtol=1e-9)
    gradients = tape.gradient(expected, flat)
    for a, b, gradient in zip(
        tf.nest.flatten(taught[0]),
        tf.nest.flatten(plain[0]),
        gradients,
        strict=True,
    ):
        scale = float(tf.reduce_max(tf.abs(gradient)))
        assert scale > 0
        np.testing.assert_allclose(
            a - b, 3 * gradient, rtol=1e-8, atol=1e-9 * scale
        )
    # The rule goes its own way.
    for a, b in zip(taught[2].carry.params, plain[2].carry.params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_rule_like_the_teacher_has_no_error():
    task = float64_quadratic(n=6)
    meta_params = to_float64(TEACHER.init_meta_params(0))
    losses = [
        estimator.estimate(meta_params, to_float64(estimator.init(0)), 0)[1]
        for estimator in (
            TruncatedBackprop(unroll_length=5).bind(TEACHER, task, 10),
            Imitation(unroll_length=5, teacher=TEACHER).bind(TEACHER, task, 10),
        )
    ]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-12)


@pytest.mark.parametrize("name", slow_but(["partition"], COORDINATEWISE))
def test_samples_are_of_both(name, monkeypatch):
    task = float64_quadratic(n=6)
    rule = RULES[name].for_variables(task.variables())
    meta_params = to_float64(rule.init_meta_params(0))
    monkeypatch.setattr(
        Imitation, "_sample", lambda self, size, seed: tf.range(min(size, 2))
    )
    losses = []
    for arguments in ({}, {"teacher": TEACHER}):
        estimator = (Imitation if arguments else TruncatedBackprop)(
            unroll_length=5, sampled_coordinates=2, **arguments
        ).bind(rule, task, 10)
        episode = second_unroll(estimator, meta_params)
        losses.append(estimator.estimate(meta_params, episode, 0)[1])
    sizes = [math.prod(v.shape) for v in task.variables()]
    assert sizes == [2, 4]
    error = error_by_definition(rule, task, TEACHER, meta_params, sample=2)
    np.testing.assert_allclose(
        losses[1] - losses[0], error(meta_params), rtol=1e-9
    )


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"teacher": "adam"}, "`teacher` must be a keras_l2l.rules.UpdateRule"),
        ({"imitation_weight": 0}, "`imitation_weight` must be a positive"),
        ({"teacher": rules.GlobalAveragingLSTM()}, "treat each by itself"),
        ({"rule": rules.Celo(10)}, "treat each by itself.*Celo"),
        ({"rule": "lstm"}, "`rule` must be a keras_l2l.UpdateRule"),
    ],
)
def test_what_cannot_be_taught_is_refused(changed, message):
    changed = dict(changed)
    rule = changed.pop("rule", rules.RNNprop())
    with pytest.raises(ValueError, match=message):
        Imitation(
            **{
                "unroll_length": 2,
                "teacher": TEACHER,
                "sampled_coordinates": 2,
                **changed,
            }
        ).bind(rule, tasks.Quadratics(3), 4)
