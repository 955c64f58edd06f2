"""Making a model without a trace in what a process has only one of."""

import contextlib
import copy
import random

import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context

# Keras' counts of the names that it has given, and its generator.
_NAMES, _GENERATOR = "object_name_uids", "global_seed_generator"


def counts_of_names():
    """Returns how often Keras has given each name so far, for `isolated`."""
    return copy.copy(global_state.get_global_attribute(_NAMES))


@contextlib.contextmanager
def isolated(seed, names, seed_tensorflow):
    """Context in which global generators are seeded, and put back after.

    They are those of Python, NumPy, Keras and, if asked for, TensorFlow.

    TensorFlow keeps about 0.3 MB for the names of a model's variables. Here,
    each model has the same ones.

    Args:
        seed: Int >= 0.
        names: As from `counts_of_names`, at which Keras goes on.
        seed_tensorflow: Bool. TensorFlow then forgets its compiled graphs,
            which the next meta-step has to wait 0.4 s for. And where the
            caller gives an operation a `seed` of its own, the operation
            draws from its start again: this can't be put back.
    """
    python, numpy = random.getstate(), np.random.get_state()
    tensorflow = context.context()
    # Without a seed there is no generator.
    tensorflow_state = tensorflow._seed, getattr(tensorflow, "_rng", None)
    generator, counts = map(
        global_state.get_global_attribute, (_GENERATOR, _NAMES)
    )
    try:
        random.seed(seed)
        np.random.seed(seed)
        # Keras seeds a new generator, and those of layers, from Python's.
        global_state.set_global_attribute(_GENERATOR, None)
        global_state.set_global_attribute(_NAMES, copy.copy(names))
        # Also where it is not asked for: the caller's would move on.
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
