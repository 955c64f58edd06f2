"""From what a backend calls a gradient to what a rule sees.

`fit`, the unroll of meta-training, analysis and export all come through
`received`, so that they take the same trajectory.
"""

import typing

from keras import ops


class Received(typing.NamedTuple):
    """What a rule sees of the gradients of one step.

    Attributes:
        gradients: List of dense tensors of the variables' shapes.
        mask: List of bool tensors of these shapes: False where a coordinate
            must stay as it is, value and state.
        seen: List of bool tensors of these shapes, for the next step:
            which coordinates have had a gradient other than 0. Empty if the
            `seen` passed in was.
    """

    gradients: list
    mask: list
    seen: list


def init_seen(rule, shapes):
    """Returns `seen` before the first step.

    Args:
        rule: `UpdateRule`.
        shapes: List of tuples of ints, the variables' shapes.

    Returns:
        List of bool tensors of these shapes, all False; empty for a rule that
        does not move what has had no gradient, which needs no such memory.
    """
    if rule.rests_without_gradient:
        return []
    return [ops.zeros(shape, "bool") for shape in shapes]


def received(gradients, shapes, seen, dtype="float32"):
    """Returns what a rule sees of gradients.

    A coordinate is masked in a step whose gradient is `None`, NaN or
    infinite, and for as long as its gradients have all been 0: most rules
    would move it, as an embedding row that no batch has held yet. Rows that
    are absent from a later batch have a gradient of 0, as they have on
    backends without sparse gradients.

    Args:
        gradients: List of tensors, `tf.IndexedSlices` (whose repeated rows
            are summed) or `None`. Their static shape may be unknown.
        shapes: List of tuples of ints, the variables' shapes.
        seen: As from `init_seen`, or of the step before.
        dtype: String, of the gradients that the rule sees.

    Returns:
        `Received`.
    """
    found = Received([], [], [])
    for i, (gradient, shape) in enumerate(zip(gradients, shapes, strict=True)):
        value = dense(gradient, shape, dtype)
        mask = ops.isfinite(value)
        if gradient is None:
            mask = ops.zeros(shape, "bool")
        if seen:
            new = ops.logical_and(mask, value != 0)
            found.seen.append(ops.logical_or(seen[i], new))
            mask = ops.logical_and(mask, found.seen[i])
        found.gradients.append(value)
        found.mask.append(mask)
    return found


def dense(gradient, shape, dtype="float32"):
    """Returns a gradient as one dense tensor of the variable's shape.

    Args:
        gradient, shape, dtype: As for `received`; `None` gives zeros.
    """
    if gradient is None:
        return ops.zeros(shape, dtype)
    if hasattr(gradient, "dense_shape"):
        gradient = ops.segment_sum(
            ops.cast(gradient.values, dtype),
            ops.convert_to_tensor(gradient.indices),
            num_segments=shape[0],
        )
    gradient = ops.cast(gradient, dtype)
    if gradient.shape != tuple(shape):
        # As of a Dense kernel where the batch size is open.
        gradient = ops.reshape(gradient, shape)
    return gradient
