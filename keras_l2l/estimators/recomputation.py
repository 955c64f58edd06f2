"""Backpropagation that recomputes a rule's step instead of storing it."""

import tensorflow as tf

from keras_l2l.utils import backends


def recomputed(step, jit_compile):
    """Returns a rule's step of which only the inputs are stored.

    What is between inputs and outputs is four times as large as they are, and
    computed again faster than it is written to memory and read.
    """
    # Not the whole unroll: compiling the optimizee gains nothing on CPUs, and
    # takes long for a large one.
    forward = backends.compiled(step, jit_compile)

    def backward(inputs, upstream):
        floats = list(filter(_is_float, tf.nest.flatten(inputs)))
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = tf.nest.flatten(step(*inputs))
        return tape.gradient(
            outputs,
            floats,
            upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    backward = backends.compiled(backward, jit_compile)

    def call(*inputs):
        flat = tf.nest.flatten(inputs)
        structure = None

        # Of floats alone: nothing else has derivatives.
        @tf.custom_gradient
        def of_floats(*floats):
            nonlocal structure
            remaining = iter(floats)
            received = tf.nest.pack_sequence_as(
                inputs, [next(remaining) if _is_float(t) else t for t in flat]
            )
            structure = forward(*received)
            return tf.nest.flatten(structure), lambda *upstream: backward(
                received, upstream
            )

        outputs = of_floats(*filter(_is_float, flat))
        return tf.nest.pack_sequence_as(structure, outputs)

    return call


def _is_float(tensor):
    return tf.is_tensor(tensor) and tf.as_dtype(tensor.dtype).is_floating
