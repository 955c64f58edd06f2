"""One contract for all rules, found by reflection."""

import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_close
from conftest import assert_same
from conftest import leaves
from conftest import slow_but
from reflection import concrete_subclasses
from reflection import every_rule
from reflection import make
from rule_reflection import parametrize
from rule_steps import SHAPES
from rule_steps import random_step

from keras_l2l import rules


def test_every_rule_is_public():
    for rule in concrete_subclasses(rules, rules.UpdateRule):
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
def test_coordinates_that_are_taken_are_updated_as_among_all(rule):
    rule, meta_params, inputs, state = random_step(make(rule), SHAPES)
    _, state = rule.step(meta_params, inputs, state)
    coordinates = [tf.constant(c) for c in ([0], [2, 0], [4], [71, 3, 9])]

    def chosen(tensors):
        return [
            tf.gather(tf.reshape(t, [-1]), c)
            for t, c in zip(tensors, coordinates, strict=True)
        ]

    try:
        taken = rule.take(state, SHAPES, coordinates)
    except ValueError as error:
        assert "must treat each by itself" in str(error)
        # Those of which each coordinate is by itself need not refuse.
        assert not isinstance(rule, rules.CoordinatewiseRule)
        return
    expected, _ = rule.step(meta_params, inputs, state)
    received, _ = rule.step(
        meta_params,
        inputs._replace(
            gradients=chosen(inputs.gradients), params=chosen(inputs.params)
        ),
        taken,
    )
    assert_close(received, chosen(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "rule",
    slow_but(
        [rules.CoordinatewiseLSTM, rules.MLPRule],
        concrete_subclasses(rules, rules.UpdateRule),
    ),
    ids=lambda cls: cls.__name__,
)
def test_derivatives_are_right_when_compiled(rule):
    # Of a size at which XLA multiplies matrices otherwise than of a small one.
    rule, *inputs = random_step(make(rule), [(37, 40), (20,)])
    _, inputs[2] = rule.step(*inputs)
    # A minimum of two equal losses would have no derivative, nor would the
    # maximum of gradients that are repeated.
    inputs[1] = inputs[1]._replace(
        gradients=[0.5 - g for g in inputs[1].gradients],
        loss=tf.constant(0.7),
        iteration=tf.constant(1),
    )
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
        tf.function(derivatives, jit_compile=True, autograph=False)(),
        derivatives(),
        strict=True,
    ):
        if expected is not None:
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                compiled, expected, rtol=1e-5, atol=1e-5 * scale
            )


@every_rule
def test_meta_params_depend_on_their_seed_alone(rule):
    rule = make(rule)
    first = leaves(rule.init_meta_params(7))
    # The generators of a process are not used.
    keras.utils.set_random_seed(99)
    assert_same(first, rule.init_meta_params(7))
    other = leaves(rule.init_meta_params(8))
    # Those of hand-designed rules are numbers.
    drawn = any(leaf.ndim > 1 for leaf in first)
    assert not drawn or any(
        np.any(a != b) for a, b in zip(first, other, strict=True)
    )


@every_rule
def test_rule_survives_serialization(rule):
    rule = make(rule)
    bound, meta_params, inputs, state = random_step(rule, SHAPES)
    expected, _ = bound.step(meta_params, inputs, state)
    # Also when it was used before.
    for copy in (
        rules.deserialize(rules.serialize(rule)),
        pickle.loads(pickle.dumps(rule)),
    ):
        assert type(copy) is type(rule)
        assert copy.get_config() == rule.get_config()
        bound, *_ = random_step(copy, SHAPES)
        received, _ = bound.step(meta_params, inputs, state)
        assert_same(expected, received)


@parametrize("rule", rules, rules.CoordinatewiseRule)
def test_permuting_coordinates_permutes_updates(rule):
    rule, meta_params, inputs, state = random_step(
        make(rule), [(12,)], "float64"
    )
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
        np.testing.assert_allclose(updates[3], free[3], rtol=1e-6)
    # Others depend on all coordinates of a tensor.
    if not isinstance(
        rule,
        (
            rules.VectorRule,
            rules.BlockwiseRule,
            rules.Celo,
            rules.Celo2,
            rules.MLPRule,
        ),
    ):
        np.testing.assert_allclose(updates[2], free[2] * keep, rtol=1e-6)
    # Their state stays, too.
    if isinstance(rule, rules.CoordinatewiseRule):
        stays = np.concatenate([[False], [True] * 3, keep.ravel() == 0])
        for new, old in zip(leaves(new_state), leaves(state), strict=True):
            np.testing.assert_array_equal(
                new[..., :10][..., stays], old[..., :10][..., stays]
            )
            assert np.any(new != old)
    if isinstance(rule, rules.TensorwiseRule):
        states = state["tensors"] if isinstance(state, dict) else state
        after = new_state["tensors"] if isinstance(state, dict) else new_state
        assert_same(after[1], states[1])
    # What is there does not matter, and does not reach the others.
    gradients = list(inputs.gradients)
    gradients[1] = gradients[1] * np.nan
    gradients[2] = tf.where(keep == 1, gradients[2], np.inf)
    again = rule.step(meta_params, masked._replace(gradients=gradients), state)
    assert_same((updates, new_state), again)


@every_rule
def test_rule_is_not_traced_again(rule):
    rule = make(rule)
    rule, meta_params, inputs, state = random_step(rule, SHAPES)
    step = tf.function(rule.step, autograph=False)
    for _ in range(2):
        _, state = step(meta_params, inputs, state)
    assert step.experimental_get_tracing_count() == 1
    # XLA takes minutes to compile an unroll of what holds compiled parts.
    graph = step.get_concrete_function(meta_params, inputs, state).graph
    assert not [op for op in graph.get_operations() if "Call" in op.type]
