"""The count of steps that NaN or infinite gradients spoil."""

from keras import ops

from keras_l2l.utils import backends


def skips(gradients):
    """Returns whether any gradient is NaN or infinite, a scalar bool tensor.

    Args:
        gradients: List of tensors, `tf.IndexedSlices` or `None`.
    """
    finite = [
        # Of a sparse gradient, the rows that are there.
        ops.all(ops.isfinite(g.values if hasattr(g, "dense_shape") else g))
        for g in gradients
        if g is not None
    ]
    return ops.logical_not(ops.all(ops.stack(finite)))


def remarks(optimizer, skipped_steps):
    """Returns what to tell of skipped steps, a list of at most one string.

    Args:
        optimizer: `keras.optimizers.Optimizer`, which may clip gradients.
        skipped_steps: Int variable, the count.
    """
    steps = int(ops.convert_to_numpy(backends.read(skipped_steps)))
    if not steps:
        return []
    effect = "Coordinates of such a gradient were left as they are."
    if optimizer.clipnorm:
        effect += (
            " With clipnorm, all others of their variable had a gradient of "
            "NaN, or of 0 if it was infinite."
        )
    elif optimizer.global_clipnorm:
        effect = "With global_clipnorm, all of the model was left as it is."
    return [
        f"Steps with gradients that are NaN or infinite, so far: {steps}. "
        f"{effect}"
    ]
