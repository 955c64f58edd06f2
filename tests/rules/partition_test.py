import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same
from conftest import leaves
from conftest import regression_task
from conftest import uncompiled

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import task_check
from keras_l2l.utils import nests

X = np.random.default_rng(0).integers(0, 9, size=(32, 4))
Y = X.sum(axis=1, keepdims=True) / 9


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(9, 3, name="words"),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )


def partition():
    return rules.Partition(
        [
            ("words", rules.Adam(0.01)),
            (lambda v: len(v.shape) == 1, rules.SGD(0.1)),
        ],
        default=keras_l2l.CoordinatewiseLSTM(units=(4,)),
    )


class Shrink(rules.UpdateRule):
    """Halves every parameter, so that it needs their values."""

    def init_meta_params(self, seed):
        return {}

    def init_state(self, shapes):
        return {}

    def step(self, meta_params, inputs, state):
        return [-0.5 * p for p in inputs.params], state


def test_members_see_their_own_parameters():
    variables = [
        keras.Variable(np.float32([i + 1.0, -1.0]), name=f"v{i}")
        for i in range(4)
    ]
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.Partition([("v[13]", Shrink())], rules.SGD(1.0))
    )
    optimizer.apply([tf.ones(2)] * 4, variables)
    np.testing.assert_array_equal(
        leaves(variables), [[0.0, -2.0], [1.0, -0.5], [2.0, -2.0], [2.0, -0.5]]
    )


def test_each_variable_is_updated_by_its_rule():
    model = make_model()
    optimizer = keras_l2l.LearnedOptimizer(rule=partition())
    variables = model.trainable_variables
    gradients = [tf.ones(v.shape) * 0.5 for v in variables]
    before = leaves(variables)
    optimizer.apply(gradients, variables)
    moves = [a - b for a, b in zip(leaves(variables), before, strict=True)]
    np.testing.assert_allclose(moves[0], -0.01, rtol=1e-4)
    np.testing.assert_allclose(moves[2], -0.05, rtol=1e-4)
    np.testing.assert_allclose(moves[4], -0.05, rtol=1e-4)
    # The LSTM's alone, on the two kernels.
    rule = keras_l2l.CoordinatewiseLSTM(units=(4,))
    kernels = [gradients[1], gradients[3]]
    expected, _ = rule.step(
        rule.init_meta_params(0),
        rules.StepInputs(kernels, None, None, 0),
        rule.init_state([k.shape for k in kernels]),
    )
    np.testing.assert_allclose(moves[1], expected[0], rtol=1e-3)
    np.testing.assert_allclose(moves[3], expected[1], rtol=1e-3)


def test_state_is_that_of_the_members():
    model = make_model()
    optimizer = keras_l2l.LearnedOptimizer(rule=partition())
    floats = 2 * 27 + (60 + 5) * 8
    # Beside a byte for each parameter.
    estimate = optimizer.estimate_memory(model)
    assert estimate == 4 * floats + model.count_params()
    optimizer.build(model.trainable_variables)
    assert rules.count_params(leaves(optimizer._state)) == floats


def test_fit_and_save_continue_exactly(tmp_path):
    rule = rules.Partition(
        [("words", rules.Adam(0.01)), ("kernel", rules.CoordinatewiseLSTM())],
        default=rules.Momentum(0.01),
    )
    model = make_model()
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), "mse")
    model.fit(X, Y, verbose=0, epochs=2, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for m in (model, loaded):
        m.fit(X, Y, verbose=0, epochs=2, shuffle=False)
    assert_same(model.get_weights(), loaded.get_weights())


@pytest.mark.slow
def test_preset_and_meta_training(tmp_path):
    task = tasks.KerasModelTask(make_model, "mse", (X, Y), batch_size=8)
    rule = rules.Partition(
        [("words", uncompiled(rules.CoordinatewiseLSTM((3,))))],
        rules.SGD(0.05),
    )
    short = {
        "horizon": 4,
        "estimator": estimators.TruncatedBackprop(unroll_length=2),
        "validation": meta_training.Validation(interval=2, episodes=1),
    }
    report = task_check.inspect_task(rule, task, **short)
    assert report["params"] == 9 * 3 + (12 * 5 + 5) + (5 + 1)
    result = keras_l2l.meta_train(
        rule, task, tmp_path, meta_steps=4, verbose=0, **short
    )
    # Of the rule as given.
    saved, meta_params, horizon = presets.load_preset(tmp_path / "preset")
    assert rules.serialize(saved) == rules.serialize(rule)
    assert horizon == 4
    assert_same(meta_params, result.meta_params)
    start = dict(nests.named_leaves(rule.init_meta_params(0)))
    for name, value in nests.named_leaves(result.meta_params):
        moved = np.abs(np.asarray(value - start[name])).max()
        assert moved > 0, name
    optimizer = keras_l2l.LearnedOptimizer.from_preset(tmp_path / "preset")
    model = make_model()
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)


def test_first_selector_wins_and_raw_variables_have_names():
    rule = rules.Partition(
        [("a", rules.SGD(1.0)), ("a|b", rules.SGD(2.0))], rules.SGD(3.0)
    )
    variables = [tf.Variable(0.0, name=name) for name in ("a", "b", "c")]
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    optimizer.apply([tf.constant(1.0)] * 3, variables)
    assert [float(v) for v in variables] == [-1.0, -2.0, -3.0]


def test_unregistered_function_cannot_be_saved():
    with pytest.raises(ValueError, match="register_keras_serializable"):
        keras_l2l.LearnedOptimizer(rule=partition()).get_config()


def test_use_before_the_variables_are_known():
    with pytest.raises(ValueError, match="for_variables"):
        partition().init_state([(3,)])


@pytest.mark.parametrize(
    "members, default",
    [
        ([("a", rules.SGD)], rules.SGD()),
        ([(3, rules.SGD())], rules.SGD()),
        ([rules.SGD()], rules.SGD()),
        ([], None),
    ],
)
def test_bad_members(members, default):
    with pytest.raises(ValueError, match="must be pairs"):
        rules.Partition(members, default)


@pytest.mark.parametrize("members", [None, {"a": rules.SGD()}])
def test_members_must_be_a_list(members):
    with pytest.raises(ValueError, match="must be a list of pairs"):
        rules.Partition(members, rules.SGD())


def test_a_string_must_be_a_regular_expression():
    with pytest.raises(ValueError, match=r"Received: '\['"):
        rules.Partition([("[", rules.SGD())], rules.SGD())


def test_meta_training_warns_of_a_rule_that_has_no_variables(tmp_path):
    rule = rules.Partition(
        [("conv", rules.CoordinatewiseLSTM((2,))), ("nope", _WithoutAny())],
        default=rules.SGD(),
    )
    with pytest.warns(UserWarning, match="of member_0 will stay.*quadratics"):
        keras_l2l.meta_train(
            rule,
            tasks.Quadratics(2),
            tmp_path,
            horizon=2,
            estimator=estimators.TruncatedBackprop(unroll_length=2),
            meta_steps=1,
            validation=meta_training.Validation(episodes=1),
            verbose=0,
        )


@keras.saving.register_keras_serializable(package="tests")
class _WithoutAny(rules.CoordinatewiseRule):
    """A rule without meta-parameters."""

    def init_meta_params(self, seed):
        return {}

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        return -gradient, state


def test_a_partition_within_a_partition_has_its_own_variables():
    inner = rules.Partition([("bias", rules.SGD(0.5))], rules.SGD(0.25))
    rule = rules.Partition([("dense_1", inner)], default=rules.SGD(1.0))
    variables = [
        keras.Variable(np.ones(3), name=name)
        for name in ("dense_0_bias", "dense_1_bias", "dense_1_kernel")
    ]
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    optimizer.build(variables)
    optimizer.apply([tf.ones(3) for _ in variables])
    moved = [float(1 - v.numpy()[0]) for v in variables]
    assert moved == [1.0, 0.5, 0.25]


def test_presets_may_be_members():
    lstm, mlp = (
        presets.load_preset(n) for n in ("l2l_digits_mlp", "l2l_networks")
    )
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.Partition(
            [("bias", rules.Adam(1e-3)), ("words", lstm)], "l2l_networks"
        )
    )
    expected = {"member_1": lstm.meta_params, "default": mlp.meta_params}
    for name, values in expected.items():
        assert_same(optimizer.meta_params[name], values)
    np.testing.assert_allclose(
        optimizer.meta_params["member_0"]["learning_rate"], 1e-3
    )
    assert optimizer.horizon == lstm.horizon
    model = make_model()
    model.compile(optimizer, "mse")
    first, *_, last = model.fit(X, Y, epochs=10, verbose=0).history["loss"]
    assert last < first


def test_what_cannot_be_a_member():
    with pytest.raises(ValueError, match="or a preset"):
        rules.Partition([], default=3)
    unknown = rules.Partition([("a", rules.SGD())], default="nope")
    with pytest.raises(presets.PresetError, match="l2l_networks"):
        keras_l2l.LearnedOptimizer(rule=unknown)


def test_meta_training_wants_rules(tmp_path):
    with pytest.raises(ValueError, match="load_preset.*rule"):
        keras_l2l.meta_train(
            rules.Partition([], "l2l_networks"),
            regression_task(),
            tmp_path / "run",
            horizon=20,
            meta_steps=1,
        )
