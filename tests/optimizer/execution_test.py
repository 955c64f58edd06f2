import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_close
from reflection import concrete_subclasses
from reflection import every_rule
from reflection import make
from rule_steps import SHAPES
from rule_steps import random_step

import keras_l2l
from keras_l2l import rules
from keras_l2l.optimizer import chunks
from keras_l2l.optimizer import execution
from keras_l2l.optimizer import programs
from keras_l2l.optimizer import state_storage
from keras_l2l.rules import blockwise
from keras_l2l.rules import momentum_mixture

# The optimizer refuses to round the states of others.
_STORED = [
    (rule, dtype)
    for rule in concrete_subclasses(rules, rules.UpdateRule)
    for dtype in ("float32", "bfloat16")
    if dtype == "float32" or make(rule).rounds_state
]


@pytest.mark.parametrize(
    "rule, dtype", _STORED, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_stored_step_is_step_on_a_stored_state(rule, dtype, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 7)
    rule, meta_params, inputs, state = random_step(make(rule), SHAPES)
    mask = [None, True, np.arange(6).reshape(2, 3) > 2, None]
    inputs = inputs._replace(mask=mask)
    _, state = rule.step(meta_params, inputs, state)
    held = state_storage.Storage(dtype)
    stored = held.write(state)
    run = execution.execution_of(rule, held)
    updates, new_stored = run.stored_step(meta_params, inputs, stored)
    expected, new_state = rule.step(meta_params, inputs, held.read(stored))
    assert {t.dtype.name for t in keras.tree.flatten(new_stored)} <= {
        held.variable_dtype
    }
    assert_close(updates, expected, rtol=0, atol=1e-6)
    # Half of the last bit of bfloat16.
    rtol = 2**-8 if dtype == "bfloat16" else 0
    assert_close(held.read(new_stored), new_state, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(
    "rule",
    concrete_subclasses(rules, rules.BlockwiseRule),
    ids=lambda cls: cls.__name__,
)
def test_parts_are_independent(rule, monkeypatch):
    monkeypatch.setattr(blockwise, "_LARGE", 6)
    monkeypatch.setattr(blockwise, "_JOINED", 0)
    rule, meta_params, inputs, state = random_step(make(rule), SHAPES)
    expected, _ = rule.step(meta_params, inputs, state)
    divided = execution.execution_of(rule, None).divide(SHAPES)
    assert len(divided.shapes) > 1
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
    # A processor may sum in another order where there are fewer coordinates.
    assert_close(divided.join(parts), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", [rules.MLPRule, rules.CeloAdam])
def test_tensors_of_one_shape_are_compiled_once(rule, monkeypatch):
    # Whatever their size.
    monkeypatch.setattr(execution, "_LARGE", 0)
    monkeypatch.setattr(programs, "_programs", type(programs._programs)())
    shapes = [(2, 3), (3,), (2, 3), (3,)]
    rule, meta_params, inputs, state = random_step(make(rule), shapes)
    held = state_storage.Storage("float32", rule.rounds_state)
    step = tf.function(execution.execution_of(rule, held).stored_step)
    step(meta_params, inputs, state)
    assert len(programs._programs) == 2
    assert "XlaMustCompile" in str(
        step.get_concrete_function(
            meta_params, inputs, state
        ).graph.as_graph_def()
    )


@every_rule
def test_the_state_is_described_as_it_is_made(rule):
    rule, *_ = random_step(make(rule), SHAPES)
    described = execution.execution_of(rule, None).state_spec(SHAPES)
    made = rule.init_state(SHAPES)
    keras.tree.assert_same_structure(described, made)
    for a, b in zip(
        keras.tree.flatten(described), keras.tree.flatten(made), strict=True
    ):
        assert tuple(a.shape) == tuple(b.shape)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: rule,
        lambda rule: rules.Partition([("small", rule)], rule),
    ],
    ids=["alone", "partition"],
)
def test_parts_know_the_size_of_the_model(wrap):
    # What a small kernel does depends on the parameters elsewhere.
    rule = rules.MomentumMixture(100, 10)
    meta_params = keras.tree.map_structure(np.array, rule.init_meta_params(0))
    rate = meta_params["controls"]["rate"]
    rate[momentum_mixture.SIGNALS.index("capacity")] = 1.0
    variables = [
        keras.Variable(np.ones(shape), name=name)
        for name, shape in {"small": (8, 4), "large": (150, 100)}.items()
    ]
    shapes = [tuple(v.shape) for v in variables]
    rng = np.random.default_rng(0)
    gradients = [tf.constant(rng.normal(size=s), "float32") for s in shapes]
    inputs = rules.StepInputs(
        gradients, [tf.ones(s) for s in shapes], None, tf.constant(0)
    )
    expected, _ = rule.step(meta_params, inputs, rule.init_state(shapes))
    wrapped = wrap(rule)
    if wrapped is not rule:
        meta_params = dict.fromkeys(wrapped.inner_rules(), meta_params)
        bound = wrapped.for_variables(variables)
        updates, _ = bound.step(meta_params, inputs, bound.init_state(shapes))
        assert_close(updates, expected, rtol=1e-4, atol=1e-7)
    optimizer = keras_l2l.LearnedOptimizer(
        rule=wrapped, meta_params=meta_params
    )
    optimizer.apply(gradients, variables)
    for variable, update in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable - 1.0, update, rtol=1e-4, atol=1e-7)
