"""Turns the gradients of a backend into what a rule sees.

`fit`, the unroll of meta-training, evaluation and export all call `received`,
so that they take the same trajectory.
"""

import typing

from keras import ops


class Received(typing.NamedTuple):
    """Gradients of one step, in the form that a rule sees.

    Attributes:
        gradients: List of dense tensors of the variables' shapes.
        mask: List of bool tensors of these shapes, False where the value and
            the state of a coordinate must not change; or `None` if all may.
        seen: List of bool tensors of these shapes, for the next step: whether
            a coordinate has had a gradient other than 0. Empty if the `seen`
            that was passed in is empty.
    """

    gradients: list
    mask: list | None
    seen: list


def init_seen(rule, shapes):
    """Returns `seen` before the first step.

    Args:
        rule: `UpdateRule`.
        shapes: List of tuples of ints, the variables' shapes.

    Returns:
        List of bool tensors of these shapes, all False. Empty if the rule
        rests without a gradient, and so needs no such memory.
    """
    if rule.rests_without_gradient:
        return []
    return [ops.zeros(shape, "bool") for shape in shapes]


def received(gradients, shapes, seen, dtype="float32", finite=False):
    """Returns what a rule sees of gradients.

    A coordinate is masked if its gradient is `None`, NaN or infinite, or if
    all its gradients so far were 0. Most rules would move such a coordinate,
    for example an embedding row that no batch has contained yet. Rows that are
    absent from a later batch get a gradient of 0, as on backends without
    sparse gradients.

    Args:
        gradients: List of tensors, `tf.IndexedSlices` (repeated rows are
            summed) or `None`. Their static shape may be unknown.
        shapes: List of tuples of ints, the variables' shapes.
        seen: As from `init_seen`, or as returned by the step before.
        dtype: String, dtype of the gradients that the rule sees.
        finite: Bool, whether all gradients are known to be finite.

    Returns:
        `Received`.
    """
    masks = not finite or seen or any(g is None for g in gradients)
    result = Received([], [] if masks else None, [])
    for i, (gradient, shape) in enumerate(zip(gradients, shapes, strict=True)):
        value = dense(gradient, shape, dtype)
        result.gradients.append(value)
        if not masks:
            continue
        mask = ops.isfinite(value)
        if gradient is None:
            mask = ops.zeros(shape, "bool")
        if seen:
            new = ops.logical_and(mask, value != 0)
            result.seen.append(ops.logical_or(seen[i], new))
            mask = ops.logical_and(mask, result.seen[i])
        result.mask.append(mask)
    return result


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
        # For example of a Dense kernel with an unknown batch size.
        gradient = ops.reshape(gradient, shape)
    return gradient
