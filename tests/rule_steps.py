"""Random inputs for a step of any rule."""

import keras
import numpy as np
import tensorflow as tf

from keras_l2l import rules

SHAPES = [(), (3,), (2, 3), (3, 3, 2, 4)]


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
