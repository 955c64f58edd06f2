"""Builds models without side effects on the global state of the process."""

import contextlib
import copy
import random

import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context

# Keras' counts of the names of layers, and its random generator.
_NAMES, _GENERATOR = "object_name_uids", "global_seed_generator"


def counts_of_names():
    """Returns how often Keras has used each name so far, for `isolated`."""
    return copy.copy(global_state.get_global_attribute(_NAMES))


@contextlib.contextmanager
def isolated(seed, names, seed_tensorflow):
    """Context in which global random generators are seeded, then restored.

    These are the generators of Python, NumPy, Keras and, optionally,
    TensorFlow. Each model gets the same names for its variables, since
    TensorFlow keeps about 0.3 MB for new ones.

    Args:
        seed: Int >= 0.
        names: As from `counts_of_names`. Keras continues from these counts.
        seed_tensorflow: Bool, whether to seed TensorFlow as well. It then
            forgets its compiled graphs, which costs the next meta-step 0.4 s.
            Operations of the caller that have a `seed` of their own start
            again, which can't be restored.
    """
    python, numpy = random.getstate(), np.random.get_state()
    tensorflow = context.context()
    # There is no generator before a seed is set.
    tensorflow_state = tensorflow._seed, getattr(tensorflow, "_rng", None)
    generator, counts = map(
        global_state.get_global_attribute, (_GENERATOR, _NAMES)
    )
    try:
        random.seed(seed)
        np.random.seed(seed)
        # Keras seeds its generators, also those of layers, from Python's.
        global_state.set_global_attribute(_GENERATOR, None)
        global_state.set_global_attribute(_NAMES, copy.copy(names))
        # In any case, since the caller's generator would advance.
        tensorflow._seed, tensorflow._rng = seed, random.Random(seed)
        if seed_tensorflow:
            tf.random.set_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        global_state.set_global_attribute(_GENERATOR, generator)
        global_state.set_global_attribute(_NAMES, counts)
        tensorflow._seed, tensorflow._rng = tensorflow_state
