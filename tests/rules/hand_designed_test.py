import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l import rules


@pytest.mark.parametrize(
    "rule, optimizer",
    [
        (rules.SGD(0.1), keras.optimizers.SGD(0.1)),
        (rules.Momentum(0.1, 0.8), keras.optimizers.SGD(0.1, momentum=0.8)),
        (
            rules.Adam(0.05, 0.8, 0.95, 1e-5),
            keras.optimizers.Adam(0.05, 0.8, 0.95, 1e-5),
        ),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_as_a_rule_equals_the_keras_optimizer(rule, optimizer):
    learned = keras_l2l.LearnedOptimizer(rule=rule)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=s).astype("f4") for s in ((3, 2), (), (4,))]
    trajectories = []
    for each in (learned, optimizer):
        variables = [keras.Variable(v) for v in values]
        rng = np.random.default_rng(1)
        trajectory = []
        for _ in range(50):
            gradients = [
                tf.constant(v.numpy() + rng.normal(size=v.shape), tf.float32)
                for v in variables
            ]
            each.apply(gradients, variables)
            trajectory.append(
                np.concatenate([v.numpy().ravel() for v in variables])
            )
        trajectories.append(np.array(trajectory))
    moved = np.abs(trajectories[1][-1] - trajectories[1][0]).min()
    assert moved > 0.01
    np.testing.assert_allclose(*trajectories, rtol=1e-5, atol=1e-6)


def test_adam_meta_gradient_is_finite_where_all_gradients_are_zero():
    rule = rules.Adam()
    meta_params = rule.init_meta_params(0)
    gradient = tf.zeros([3])
    with tf.GradientTape() as tape:
        tape.watch([*meta_params.values(), gradient])
        updates, _ = rule.step(
            meta_params,
            rules.StepInputs([gradient], None, None, 0),
            rule.init_state([(3,)]),
        )
    for g in tape.gradient(updates, [*meta_params.values(), gradient]):
        assert g is None or np.isfinite(g).all()


@pytest.mark.parametrize(
    "changed",
    [{"beta_1": 1.004}, {"beta_2": 1.003}, {"epsilon": -0.004}],
    ids=str,
)
def test_adam_is_finite_where_meta_training_leads_out_of_a_range(changed):
    rule = rules.Adam()
    meta_params = {
        name: tf.constant(changed.get(name, value))
        for name, value in rule.init_meta_params(0).items()
    }
    state = rule.init_coordinate_state(3)
    gradient = tf.constant([0.0, 1.0, -2.0])
    for i in range(200):
        update, state = rule.coordinate_step(meta_params, gradient, state, i)
        assert np.isfinite(update).all()
        assert update[0] == 0 and update[1] < 0 < update[2]


@pytest.mark.parametrize(
    "rule, name, values",
    [
        (rules.SGD, "learning_rate", [-1, np.nan, np.inf, "0.9", True]),
        (rules.Momentum, "momentum", [-1, 1.5, np.nan, None]),
        (rules.Adam, "beta_1", [7, 1, np.nan]),
        (rules.Adam, "beta_2", [7, 1, np.nan, np.float32(1.0)]),
        (rules.Adam, "epsilon", [-1e-7, np.inf]),
        (rules.RNNprop, "beta", [7, 1, np.nan, True]),
    ],
)
def test_hyperparameters_must_be_in_their_ranges(rule, name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"`{name}` must be a number in"):
            rule(**{name: value})
    value = rule(**{name: np.float32(0.5)}).get_config()[name]
    assert type(value) is float and value == 0.5
