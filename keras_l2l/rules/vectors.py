"""Joins all tensors of a step into one vector, and splits it again."""

import itertools
import math

import keras
from keras import ops


def on_vectors(inputs, run, rows=()):
    """Computes the updates of all tensors on one vector of all gradients.

    Args:
        inputs: `StepInputs`.
        run: Function from the vector of all gradients, `[*rows, n]`, and the
            mask, a bool tensor `[*rows, n]` or `None`, to a pair of the vector
            of updates and anything else.
        rows: Tuple of at most one int, which divides the sizes of all tensors:
            so many elements are a column of a matrix instead.

    Returns:
        Pair of the list of updates and the second value of `run`.
    """
    masks = inputs.masks()
    update, rest = run(
        join(inputs.gradients, rows), masks and join(masks, rows)
    )
    return split(update, [tuple(g.shape) for g in inputs.gradients]), rest


def join(tensors, rows=()):
    """Returns an array `(*rows, n)` of the elements of a list of tensors."""
    flat = [ops.reshape(t, (*rows, -1)) for t in tensors]
    return flat[0] if len(flat) == 1 else ops.concatenate(flat, axis=-1)


def split(joined, shapes):
    """Returns the list of tensors of these shapes that `join` has joined."""
    # Static slices have a cheaper gradient than `ops.split`, and allow tensors
    # of size 0.
    pieces, start, rows = [], 0, math.prod(joined.shape[:-1])
    for shape in shapes:
        size = math.prod(shape) // rows
        pieces.append(ops.reshape(joined[..., start : start + size], shape))
        start += size
    return pieces


def take(state, shapes, coordinates):
    """Returns the state of `m` of `n` coordinates: tensors `[..., m]`.

    Args:
        state: Nest of tensors `[..., n]`.
        shapes: List of shapes, with `n` coordinates in all.
        coordinates: List of int tensors, for each shape indices into its
            flattened elements.
    """
    starts = itertools.accumulate(map(math.prod, shapes), initial=0)
    indices = ops.concatenate(
        [start + c for start, c in zip(starts, coordinates, strict=False)]
    )
    return keras.tree.map_structure(
        lambda t: ops.take(t, indices, axis=-1), state
    )


def where(mask, new, old):
    """Returns the new nest where `mask` is True, and the old elsewhere."""
    if mask is None:
        return new
    return keras.tree.map_structure(
        lambda a, b: ops.where(mask, a, b), new, old
    )
