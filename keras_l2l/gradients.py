"""Pure functions from what Keras hands over to what a rule can use."""

from keras import ops


def dense_and_present(gradients, shapes):
    """Returns gradients as dense float32 tensors, and which of them are there.

    Args:
        gradients: List of tensors, `tf.IndexedSlices` (their repeated rows are
            summed) or `None`.
        shapes: List of tuples of ints, the variables' shapes.

    Returns:
        Tuple `(gradients, present)` of lists of float32 tensors of these
        shapes, and of bool tensors: False in all of a gradient that is `None`,
        and in the rows absent from a sparse one. Where everything is there,
        as most of the time, `present` is a list of `None`.
    """
    dense, present = zip(
        *map(_dense_and_present, gradients, shapes), strict=True
    )
    if any(p is not None for p in present):
        present = [
            ops.ones(shape, "bool") if p is None else p
            for p, shape in zip(present, shapes, strict=True)
        ]
    return list(dense), list(present)


def _dense_and_present(gradient, shape):
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
        return gradient, ops.broadcast_to(present, shape)
    return ops.cast(gradient, "float32"), None


def mask(gradient, present):
    """Returns where a rule may update, a bool tensor of the gradient's shape.

    Coordinates stay untouched, value and state, where there is no gradient,
    and where it is NaN or infinite, which would poison the state for ever.

    Args:
        gradient, present: As from `dense_and_present`.
    """
    finite = ops.isfinite(gradient)
    return finite if present is None else ops.logical_and(finite, present)
