"""Meta-gradients against finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import float64_quadratic
from conftest import to_float64
from reflection import concrete_subclasses

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators import TruncatedBackprop
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.rules.updates import apply_updates
from keras_l2l.utils import nests


def frozen_meta_loss(rule, task, meta_params, carry, weights):
    """Returns meta_params -> meta-loss with the recorded gradients frozen."""
    # Traced once, for all steps.
    step = tf.function(rule.step, autograph=False)
    recorded, losses, params, state = [], [], carry.params, carry.state
    for k in range(len(weights)):
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss = task.loss(params, ())
        recorded.append(tape.gradient(loss, params))
        losses.append(loss)
        inputs = rules.StepInputs(
            recorded[-1], params, loss, carry.iteration + k
        )
        updates, state = step(meta_params, inputs, state)
        params = apply_updates(rule, params, updates, state)

    def meta_loss(meta_params):
        params, state, total = carry.params, carry.state, 0.0
        for k, weight in enumerate(weights):
            inputs = rules.StepInputs(
                recorded[k], params, losses[k], carry.iteration + k
            )
            updates, state = step(meta_params, inputs, state)
            params = apply_updates(rule, params, updates, state)
            total += weight * task.loss(params, ())
        return total

    return meta_loss


def true_meta_loss(rule, task, carry, weights):
    def meta_loss(meta_params):
        losses, _ = unroll_lib.unroll(
            rule, task, meta_params, carry, lambda t: (), len(weights)
        )
        return tf.reduce_sum(weights * losses)

    return meta_loss


class _OfAMatrix(tasks.Quadratic):
    """A quadratic of a matrix and a vector."""

    def init_params(self, seed):
        (x,) = super().init_params(seed)
        return [tf.reshape(x[:6], (2, 3)), x[6:]]

    def loss(self, params, batch):
        matrix, vector = params
        x = tf.concat([tf.reshape(matrix, [-1]), vector], 0)
        return super().loss([x], batch)


class _WithParams(rules.UpdateRule):
    """update = -a gradient - b params gradient^2."""

    def init_meta_params(self, seed):
        return {"a": tf.constant(0.05), "b": tf.constant(0.001)}

    def init_state(self, shapes):
        return {}

    def step(self, meta_params, inputs, state):
        a, b = meta_params["a"], meta_params["b"]
        pairs = zip(inputs.gradients, inputs.params, strict=True)
        return [-a * g - b * p * g**2 for g, p in pairs], state


RULES = {
    "lstm": rules.CoordinatewiseLSTM(),
    "lstm_raw": rules.CoordinatewiseLSTM((5,), None, output_scale=1.0),
    "global_averaging": rules.GlobalAveragingLSTM(2, (5, 4)),
    "kernel": rules.KernelLSTM((2,), (5, 4)),
    "rnnprop": rules.RNNprop((5, 4), output_scale=0.2),
    "ntm_bfgs": rules.NTMBFGS(2, 2, (5, 4)),
    "mlp": rules.MLPRule(),
    # So that it hands over within the few steps.
    "guarded": rules.Guarded(rules.SGD(3.0), rules.SGD(0.05), patience=1),
    "celo": rules.Celo(20),
    "celo_adam": rules.CeloAdam(20),
    "celo2": rules.Celo2(peak_rate=0.1, num_steps=20),
    "sgd": rules.SGD(0.05),
    "momentum": rules.Momentum(0.05, 0.8),
    "adam": rules.Adam(0.1, 0.8, 0.9, 0.01),
    "momentum_mixture": rules.MomentumMixture(num_steps=6),
    "partition": rules.Partition(
        [("param_0", rules.CoordinatewiseLSTM((5,)))], rules.SGD(0.05)
    ),
}
# How much each loss of an unroll counts.
WEIGHTS = {
    "sum": [1.0] * 6,
    "mean": [1 / 6] * 6,
    "last": [0.0] * 5 + [1.0],
    "list": [0.5, -1.0, 2.0, 0.0, 1.5, 3.0],
}
# Meta-parameters of a MomentumMixture for trainings of unknown length.
UNTOLD = [
    i
    for i, (path, _) in enumerate(
        nests.named_leaves(RULES["momentum_mixture"].init_meta_params(0))
    )
    if "unknown" in path
]
# Of the network of Celo, and of the cell of the LSTM.
ALIKE = ("celo_adam", "kernel", "global_averaging", "ntm_bfgs")
CASES = [
    *[(name, "sum") for name in [*RULES, "params"] if name not in ALIKE],
    *[pytest.param(name, "sum", marks=pytest.mark.slow) for name in ALIKE],
    # Which losses count is not up to the rule: one that is cheap.
    *[("momentum", weights) for weights in ("mean", "last", "list")],
]


def test_every_rule_is_tested_below():
    found = {type(rule) for rule in RULES.values()}
    assert found == {*concrete_subclasses(rules, rules.UpdateRule)}


@pytest.mark.parametrize(
    "second_derivatives", [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name, loss_weights", CASES)
def test_meta_gradient_equals_finite_differences(
    name, loss_weights, second_derivatives
):
    task, weights = float64_quadratic(), WEIGHTS[loss_weights]
    if name in ("celo2", "momentum_mixture"):
        # Some of their meta-parameters are for matrices alone.
        of_vectors = float64_quadratic(n=8)
        task = _OfAMatrix(of_vectors.w, of_vectors.y)
    rule = RULES.get(name, _WithParams()).for_variables(task.variables())
    meta_params = to_float64(rule.init_meta_params(0))
    if name in ("celo", "celo_adam"):
        # At first so small that differences are lost in rounding.
        meta_params["schedule"]["output"]["bias"] += 5.0
    if name == "momentum_mixture":
        # So far that gradients change their signs: else no caution is needed.
        rate = meta_params["controls"]["rate"]
        meta_params["controls"]["rate"] = rate + 5.0 * tf.one_hot(
            0, rate.shape[0], dtype=rate.dtype
        )
    estimator = TruncatedBackprop(
        unroll_length=len(weights),
        second_derivatives=second_derivatives,
        loss_weights=weights if loss_weights == "list" else loss_weights,
    ).bind(rule, task, len(weights))
    episode = to_float64(estimator.init(0))
    gradient, _, _ = estimator.estimate(meta_params, episode, 0)
    if second_derivatives:
        meta_loss = true_meta_loss(rule, task, episode.carry, weights)
    else:
        meta_loss = frozen_meta_loss(
            rule, task, meta_params, episode.carry, weights
        )
    meta_loss = tf.function(meta_loss, autograph=False)
    rng = np.random.default_rng(0)
    flat, step = tf.nest.flatten(meta_params), 1e-6
    for i, leaf in enumerate(tf.nest.flatten(gradient)):
        direction = np.sign(rng.normal(size=leaf.shape))
        values = []
        for sign in (1, -1):
            moved = list(flat)
            moved[i] = flat[i] + sign * step * direction
            values.append(
                float(meta_loss(tf.nest.pack_sequence_as(meta_params, moved)))
            )
        expected = (values[0] - values[1]) / (2 * step)
        received = float(tf.reduce_sum(leaf * direction))
        scale = float(tf.norm(leaf))
        if name == "momentum_mixture" and i in UNTOLD:
            assert scale == 0
            continue
        assert scale > 1e-4
        assert received == pytest.approx(expected, rel=1e-6, abs=1e-6 * scale)


def test_second_derivatives_make_a_difference():
    # Otherwise the two settings above would test the same thing.
    gradients = []
    for second_derivatives in (False, True):
        rule = rules.SGD(0.05)
        estimator = TruncatedBackprop(
            unroll_length=6, second_derivatives=second_derivatives
        ).bind(rule, float64_quadratic(), 6)
        gradient, _, _ = estimator.estimate(
            to_float64(rule.init_meta_params(0)),
            to_float64(estimator.init(0)),
            0,
        )
        gradients.append(float(gradient["learning_rate"]))
    assert abs(gradients[0] - gradients[1]) > 0.1 * abs(gradients[1])
