"""One contract for all rules, tasks and estimators, found by reflection."""

import functools
import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import float64_quadratic
from conftest import leaves
from conftest import regression_task

from keras_l2l import chunks
from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import runs
from keras_l2l import storage
from keras_l2l import tasks


@keras.saving.register_keras_serializable(package="tests")
def _is_scalar(variable):
    return variable.shape == ()


SHAPES = [(), (3,), (2, 3), (3, 3, 2, 4)]
# What a class needs that has no default; a new class needs a line only then.
ARGUMENTS = {
    rules.Partition: lambda: rules.Partition(
        [("1|2", rules.CoordinatewiseLSTM()), (_is_scalar, rules.Adam())],
        default=rules.Momentum(),
    ),
    # Which takes variables of any shape.
    rules.KernelLSTM: lambda: rules.KernelLSTM(()),
    tasks.Quadratic: lambda: tasks.Quadratic(tf.eye(3), tf.ones(3)),
    tasks.KerasModelTask: regression_task,
    # Once: it takes seconds.
    tasks.NeuralArt: functools.cache(
        lambda: tasks.NeuralArt(np.ones((8, 8, 3)), "l2l_patches/32")
    ),
    estimators.TruncatedBackprop: lambda: estimators.TruncatedBackprop(
        rules.SGD(), tasks.Quadratics(3), 6, 3
    ),
}


def concrete_subclasses(package, base):
    """Returns the public classes of a package that derive from `base`."""
    found = set()
    for module in pkgutil.iter_modules(
        package.__path__, package.__name__ + "."
    ):
        members = vars(importlib.import_module(module.name)).values()
        found |= {
            member
            for member in members
            if inspect.isclass(member)
            and issubclass(member, base)
            and member.__module__ == module.name
            and module.name != f"{package.__name__}.base"
            and not member.__name__.startswith("_")
        }
    return sorted(found, key=lambda c: c.__name__)


def make(cls):
    return ARGUMENTS.get(cls, cls)()


def parametrize(name, package, base):
    classes = concrete_subclasses(package, base)
    assert classes
    return pytest.mark.parametrize(
        name, classes, ids=[c.__name__ for c in classes]
    )


every_rule = parametrize("rule", rules, rules.UpdateRule)
every_task = parametrize("task", tasks, tasks.TaskFamily)
every_estimator = parametrize(
    "estimator", estimators, estimators.GradientEstimator
)


def random_step(rule, shapes, dtype="float32", seed=0, mask=None):
    """Returns what `rule.step` gets: meta-parameters, inputs and state."""
    rule = rule.for_variables(
        [
            keras.Variable(np.zeros(s), name=f"param_{i}")
            for i, s in enumerate(shapes)
        ]
    )
    rng = np.random.default_rng(seed)
    gradients = [tf.constant(rng.normal(size=s), dtype) for s in shapes]
    params = [tf.constant(rng.normal(size=s), dtype) for s in shapes]
    meta_params, state = keras.tree.map_structure(
        lambda t: tf.cast(t, dtype),
        (rule.init_meta_params(seed), rule.init_state(shapes)),
    )
    inputs = rules.StepInputs(
        gradients, params, tf.constant(1.0, dtype), tf.constant(0), mask
    )
    return rule, meta_params, inputs, state


@every_rule
def test_every_rule_is_public(rule):
    assert getattr(rules, rule.__name__) is rule


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rule_keeps_shapes_and_dtype(rule, dtype):
    rule = make(rule)
    rule, meta_params, inputs, state = random_step(rule, SHAPES, dtype)
    for _ in range(2):
        updates, new_state = rule.step(meta_params, inputs, state)
        assert [tuple(u.shape) for u in updates] == SHAPES
        assert {u.dtype.name for u in updates} == {dtype}
        keras.tree.assert_same_structure(new_state, state)
        for new, old in zip(leaves(new_state), leaves(state), strict=True):
            assert new.shape == old.shape
            assert new.dtype == old.dtype
        state = new_state
    assert all(np.isfinite(u).all() for u in updates)
    assert any(np.abs(u).max() > 0 for u in updates)


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_step_in_place_is_step_on_a_stored_state(rule, dtype, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 7)
    rule, meta_params, inputs, state = random_step(make(rule), SHAPES)
    mask = [None, True, np.arange(6).reshape(2, 3) > 2, None]
    inputs = inputs._replace(mask=mask)
    _, state = rule.step(meta_params, inputs, state)
    held = storage.Storage(dtype)
    stored = held.write(state)
    updates, new_stored = rule.step_in_place(meta_params, inputs, stored, held)
    expected, new_state = rule.step(meta_params, inputs, held.read(stored))
    assert {t.dtype.name for t in keras.tree.flatten(new_stored)} <= {
        held.variable_dtype
    }
    for a, b in zip(leaves(updates), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    # Half of the last bit of bfloat16.
    rtol = 2**-8 if dtype == "bfloat16" else 0
    for a, b in zip(
        leaves(held.read(new_stored)), leaves(new_state), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


@every_rule
def test_parts_are_independent(rule, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 7)
    rule, meta_params, inputs, state = random_step(make(rule), SHAPES)
    expected, _ = rule.step(meta_params, inputs, state)
    divided = rule.divide(SHAPES)
    parts = [
        rule.step(
            meta_params,
            inputs._replace(gradients=gradients, params=params),
            rule.init_state(shapes),
        )[0]
        for gradients, params, shapes in zip(
            divided.split(inputs.gradients),
            divided.split(inputs.params),
            divided.shapes,
            strict=True,
        )
    ]
    for a, b in zip(divided.join(parts), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@every_rule
def test_derivatives_are_right_when_compiled(rule):
    # Of a size at which XLA multiplies matrices otherwise than of a small one.
    rule, *inputs = random_step(make(rule), [(37, 40), (20,)])
    _, inputs[2] = rule.step(*inputs)
    floats = [
        t
        for t in tf.nest.flatten(inputs)
        if tf.is_tensor(t) and t.dtype.is_floating
    ]
    rng = np.random.default_rng(0)

    def derivatives():
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = tf.nest.flatten(rule.step(*inputs))
        return tape.gradient(outputs, floats, upstream)

    outputs = tf.nest.flatten(rule.step(*inputs))
    upstream = [tf.constant(rng.normal(size=t.shape), t.dtype) for t in outputs]
    for compiled, expected in zip(
        tf.function(derivatives, jit_compile=True)(),
        derivatives(),
        strict=True,
    ):
        if expected is not None:
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                compiled, expected, rtol=1e-5, atol=1e-5 * scale
            )


@every_rule
def test_rule_is_deterministic_and_depends_on_its_seed_alone(rule):
    rule = make(rule)
    for a, b in zip(
        leaves(rule.init_meta_params(7)),
        leaves(rule.init_meta_params(7)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@every_rule
def test_rule_survives_serialization(rule):
    rule = make(rule)
    copy = rules.deserialize(rules.serialize(rule))
    assert type(copy) is type(rule)
    assert copy.get_config() == rule.get_config()
    bound, meta_params, inputs, state = random_step(rule, SHAPES)
    expected, _ = bound.step(meta_params, inputs, state)
    bound, *_ = random_step(copy, SHAPES)
    received, _ = bound.step(meta_params, inputs, state)
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_array_equal(a, b)


@every_rule
def test_permuting_coordinates_permutes_updates(rule):
    rule = make(rule)
    if not isinstance(rule, rules.CoordinatewiseRule):
        pytest.skip("not coordinatewise")
    rule, meta_params, inputs, state = random_step(rule, [(12,)], "float64")
    order = np.random.default_rng(1).permutation(12)
    permuted = inputs._replace(
        gradients=[tf.gather(inputs.gradients[0], order)]
    )
    updates, state_1 = rule.step(meta_params, inputs, state)
    permuted_updates, permuted_state = rule.step(meta_params, permuted, state)
    np.testing.assert_allclose(
        permuted_updates[0], tf.gather(updates[0], order), rtol=1e-12
    )
    for a, b in zip(leaves(state_1), leaves(permuted_state), strict=True):
        np.testing.assert_allclose(a[..., order], b, rtol=1e-12)


@every_rule
def test_masked_coordinates_stay_untouched(rule):
    rule = make(rule)
    mask = [None, False, tf.constant([[True, False, True]] * 2), None]
    rule, meta_params, inputs, state = random_step(rule, SHAPES)
    _, state = rule.step(meta_params, inputs, state)
    free, _ = rule.step(meta_params, inputs, state)
    masked = inputs._replace(mask=mask)
    updates, new_state = rule.step(meta_params, masked, state)
    keep = np.array([[1, 0, 1]] * 2)
    np.testing.assert_array_equal(updates[1], np.zeros(3))
    np.testing.assert_array_equal(updates[2] * (1 - keep), np.zeros((2, 3)))
    if not isinstance(rule, rules.VectorRule):
        np.testing.assert_allclose(updates[0], free[0], rtol=1e-6)
        np.testing.assert_allclose(updates[2], free[2] * keep, rtol=1e-6)
        np.testing.assert_allclose(updates[3], free[3], rtol=1e-6)
    # What is there does not matter, and does not reach the others.
    gradients = list(inputs.gradients)
    gradients[1] = gradients[1] * np.nan
    gradients[2] = tf.where(keep == 1, gradients[2], np.inf)
    again = rule.step(meta_params, masked._replace(gradients=gradients), state)
    for a, b in zip(leaves((updates, new_state)), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


@every_rule
def test_rule_is_not_traced_again(rule):
    rule = make(rule)
    rule, meta_params, inputs, state = random_step(rule, SHAPES)
    step = tf.function(rule.step)
    for _ in range(2):
        _, state = step(meta_params, inputs, state)
    assert step.experimental_get_tracing_count() == 1


@every_task
def test_task_contract(task):
    family = make(task)
    seed = tf.constant(3, tf.int64)
    task = family.sample(seed)
    assert isinstance(family.name, str) and isinstance(task, tasks.Task)
    params = task.init_params(seed)
    batch = task.batches("train", seed)(tf.constant(0, tf.int64))
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss, _ = task.stateful_loss(
            params, task.init_non_trainable(seed), batch
        )
    assert loss.shape == ()
    assert np.isfinite(loss)
    for gradient, param in zip(
        tape.gradient(loss, params), params, strict=True
    ):
        assert gradient.shape == param.shape
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@every_task
def test_same_seed_same_task(task):
    def everything(family, seed):
        seed = tf.constant(seed, tf.int64)
        task = family.sample(seed)
        batches = task.batches("train", seed)
        params = task.init_params(seed)
        losses = [task.loss(params, batches(tf.constant(t))) for t in (0, 5)]
        return leaves((params, losses))

    first, again = (everything(make(task), 4) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = everything(make(task), 5)
    assert any(
        np.abs(a - b).max() > 0 for a, b in zip(first, other, strict=True)
    )


@every_task
def test_task_is_described_as_json(task, tmp_path):
    family = make(task)
    runs.write_json(tmp_path / "task.json", family.get_config())
    assert runs.read_json(tmp_path / "task.json")


@every_estimator
def test_estimator_contract(estimator):
    estimator = make(estimator)
    meta_params = estimator.rule.init_meta_params(0)
    results = []
    for _ in range(2):
        episode = estimator.init(5)
        gradient, meta_loss, episode = estimator.estimate(
            meta_params, episode, tf.constant(0)
        )
        keras.tree.assert_same_structure(gradient, meta_params)
        assert meta_loss.shape == ()
        assert int(episode.carry.iteration) == estimator.unroll_length
        results.append(leaves((gradient, meta_loss, episode)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_reflection_finds_what_is_there():
    assert rules.CoordinatewiseLSTM in concrete_subclasses(
        rules, rules.UpdateRule
    )
    assert float64_quadratic().name == "quadratic"
