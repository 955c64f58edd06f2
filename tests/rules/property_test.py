"""What holds for any gradient that a float32 can be."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves
from hypothesis import strategies as st

import keras_l2l
from keras_l2l import rules
from keras_l2l.rules import gradients as gradients_lib

# In float32: not there, infinite, the largest, tiny, subnormal and nothing.
SPECIAL = [np.nan, np.inf, -np.inf, 1e38, -3.4e38, 1e-30, 1e-40, -1e-45, 0.0]
# Their squares overflow as Keras' Adam's do; their states hold sums.
MODERATE = [np.nan, np.inf, -np.inf, 1e18, -1e18, 1e-30, 1e-40, -1e-45, 0.0]
RULES = [
    (keras_l2l.CoordinatewiseLSTM(units=(3, 2)), SPECIAL),
    (
        keras_l2l.CoordinatewiseLSTM(
            units=(3,), preprocessing=None, output_scale=1.0
        ),
        SPECIAL,
    ),
    (rules.Adam(), MODERATE),
    (rules.Momentum(), MODERATE),
    (rules.SGD(), SPECIAL),
]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def gradients(shapes, special, dtype, seed):
    """Returns gradients of which many coordinates are special."""
    rng = np.random.default_rng(seed)
    for shape in shapes:
        normal = rng.normal(size=shape) * 10.0 ** rng.integers(-30, 10)
        chosen = rng.choice(special, size=shape)
        value = np.where(rng.random(shape) < 0.5, normal, chosen)
        yield tf.cast(tf.constant(value.astype("float32")), dtype)


@pytest.mark.parametrize(
    "rule, special", RULES, ids=lambda x: getattr(x, "name", type(x).__name__)
)
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
@hypothesis.given(
    shapes=st.lists(SHAPES, min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    steps=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_updates_and_states_are_finite(
    rule, special, shapes, dtype, steps, seed
):
    meta_params, state = rule.init_meta_params(0), rule.init_state(shapes)
    start, seen = state, gradients_lib.init_seen(rule, shapes)
    for step in range(steps):
        received = list(gradients(shapes, special, dtype, seed + step))
        dense, mask, seen = gradients_lib.received(received, shapes, seen)
        inputs = rules.StepInputs(
            dense,
            [tf.zeros(shape) for shape in shapes],
            None,
            tf.constant(step),
            mask,
        )
        updates, state = rule.step(meta_params, inputs, state)
        for update, gradient, shape in zip(
            updates, received, shapes, strict=True
        ):
            assert tuple(update.shape) == shape
            assert update.dtype == "float32"
            assert np.isfinite(update).all()
            # Untouched where there is no number to go by.
            bad = ~np.isfinite(np.asarray(gradient, "float32"))
            assert (np.asarray(update)[bad] == 0).all()
        for new, old in zip(leaves(state), leaves(start), strict=True):
            assert (new.shape, new.dtype) == (old.shape, old.dtype)
            assert np.isfinite(new).all()


@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(
    shape=SHAPES.filter(lambda shape: 0 not in shape),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_variables_stay_finite_and_of_their_dtype(shape, dtype, seed):
    optimizer = keras_l2l.LearnedOptimizer()
    variable = keras.Variable(np.ones(shape), dtype=dtype)
    optimizer.build([variable])
    for step in range(2):
        (gradient,) = gradients([shape], SPECIAL, dtype, seed + step)
        optimizer.apply([gradient], [variable])
    assert (tuple(variable.shape), variable.dtype) == (shape, dtype)
    assert np.isfinite(np.asarray(variable, "float32")).all()
    for state in optimizer.variables:
        assert np.isfinite(np.asarray(state, "float64")).all()
