"""Pure functions from what Keras hands over to what a rule can use."""

from keras import ops


def dense_and_mask(gradient, shape):
    """Returns a gradient as a dense float32 tensor, and which of it is real.

    Coordinates stay untouched, value and state, where there is no gradient:
    everywhere for `None`, in the rows absent from a sparse gradient, and where
    the gradient is NaN or infinite, which would poison the state for ever.

    Args:
        gradient: Tensor, `tf.IndexedSlices` (its repeated rows are summed) or
            `None`.
        shape: Tuple of ints, the variable's shape.

    Returns:
        Tuple `(gradient, mask)`: tensors of shape `shape`, float32 and bool.
    """
    if gradient is None:
        return ops.zeros(shape, "float32"), ops.zeros(shape, "bool")
    if hasattr(gradient, "dense_shape"):
        indices = ops.convert_to_tensor(gradient.indices)
        rows = {"segment_ids": indices, "num_segments": shape[0]}
        values = ops.cast(gradient.values, "float32")
        ones = ops.ones_like(indices, dtype="float32")
        gradient = ops.segment_sum(values, **rows)
        present = ops.segment_sum(ones, **rows) > 0
        present = ops.reshape(present, (-1,) + (1,) * (len(shape) - 1))
        return gradient, ops.logical_and(ops.isfinite(gradient), present)
    gradient = ops.cast(gradient, "float32")
    return gradient, ops.isfinite(gradient)
