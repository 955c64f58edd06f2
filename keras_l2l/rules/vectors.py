"""All tensors of a step as one vector, and back."""

import itertools
import math

import keras
from keras import ops


def on_vectors(inputs, run):
    """Returns updates like the gradients, computed on one vector of them.

    Args:
        inputs: `StepInputs`.
        run: Function of the vector of all gradients, `[n]`, and of the mask, a
            bool tensor `[n]` or `None`; returns a pair of the vector of
            updates and of anything.

    Returns:
        Pair of the list of updates and of what else `run` has returned.
    """
    shapes = [tuple(g.shape) for g in inputs.gradients]
    mask = inputs.mask
    if mask is not None:
        mask = _join(
            [
                ops.broadcast_to(True if m is None else m, shape)
                for m, shape in zip(mask, shapes, strict=True)
            ]
        )
    update, rest = run(_join(inputs.gradients), mask)
    return _split(update, shapes), rest


def take(state, shapes, coordinates):
    """Returns a nest of tensors `[..., m]`, of some of `n` coordinates.

    Args:
        state: Nest of tensors `[..., n]`.
        shapes: List of shapes of `n` coordinates in all.
        coordinates: For each shape an int tensor, which of its coordinates.
    """
    starts = itertools.accumulate(map(math.prod, shapes), initial=0)
    indices = ops.concatenate(
        [start + c for start, c in zip(starts, coordinates, strict=False)]
    )
    return keras.tree.map_structure(
        lambda t: ops.take(t, indices, axis=-1), state
    )


def where(mask, new, old):
    """Returns a nest of tensors `[..., n]`, the old ones where not masked."""
    if mask is None:
        return new
    return keras.tree.map_structure(
        lambda a, b: ops.where(mask, a, b), new, old
    )


def _join(tensors):
    flat = [ops.reshape(t, (-1,)) for t in tensors]
    return flat[0] if len(flat) == 1 else ops.concatenate(flat)


def _split(vector, shapes):
    sizes = [math.prod(shape) for shape in shapes]
    # Static slices, not `ops.split`: its gradient is the cheaper one and
    # zero-sized tensors are allowed.
    pieces, start = [], 0
    for size, shape in zip(sizes, shapes, strict=True):
        pieces.append(ops.reshape(vector[start : start + size], shape))
        start += size
    return pieces
