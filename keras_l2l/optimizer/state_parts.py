"""The tensors of a model, divided into parts that are updated side by side."""

import itertools
import math

import numpy as np
from keras import ops


class Whole:
    """One part, of all tensors as they are.

    Args:
        shapes: List of the tensors' shapes.
    """

    def __init__(self, shapes):
        self.shapes = [list(shapes)]

    def split(self, tensors):
        """Returns the list of the tensors of each part.

        Args:
            tensors: List of tensors of these shapes, or of `None`, which
                stays `None`.
        """
        return [list(tensors)]

    def join(self, parts):
        """Returns the tensors of which these are the parts."""
        return parts[0]

    def join_state(self, leaves):
        """Yields the leaves of the state of all coordinates.

        Args:
            leaves: List of arrays, those of the first part's state, then those
                of the next.
        """
        yield from leaves

    def split_state(self, leaves, number):
        """Returns the leaves of the states of all parts, as `join_state` takes.

        Args:
            leaves: List of arrays as `join_state` returns; or as it takes, of
                parts of any sizes. Others are returned as they are.
            number: Int, leaves of the state of one part.
        """
        return leaves


class Groups:
    """Parts of whole tensors, some of them together.

    Args:
        shapes: List of the tensors' shapes.
        groups: List of lists of ints, the indices of the tensors of each part,
            all of them once.
    """

    def __init__(self, shapes, groups):
        self._groups = groups
        self.shapes = [[tuple(shapes[i]) for i in group] for group in groups]

    def split(self, tensors):
        return [[tensors[i] for i in group] for group in self._groups]

    def join(self, parts):
        found = {
            i: tensor
            for group, part in zip(self._groups, parts, strict=True)
            for i, tensor in zip(group, part, strict=True)
        }
        return [found[i] for i in range(len(found))]

    def join_state(self, leaves):
        yield from leaves

    def split_state(self, leaves, number):
        return leaves


class Vectors:
    """Parts of one vector each, which together hold all coordinates in order.

    Args:
        shapes: List of the tensors' shapes.
        size: Int >= 1, coordinates in each part but the last, which has the
            rest.
    """

    def __init__(self, shapes, size):
        self._shapes = [tuple(shape) for shape in shapes]
        sizes = [math.prod(shape) for shape in self._shapes]
        ends = list(itertools.accumulate(sizes, initial=0))
        # Of each part, its pieces: (tensor, start in it, end in it).
        self._parts = [
            [
                (i, max(start - first, 0), min(start + size - first, n))
                for i, (first, n) in enumerate(zip(ends, sizes, strict=False))
                if start < first + n and first < start + size
            ]
            for start in range(0, max(ends[-1], 1), size)
        ]
        self.shapes = [
            [(sum(end - start for _, start, end in part),)]
            for part in self._parts
        ]

    def split(self, tensors):
        if all(tensor is None for tensor in tensors):
            return [[None] for _ in self._parts]
        flat = [ops.reshape(t, (-1,)) for t in tensors]
        return [
            [_concatenate([flat[i][start:end] for i, start, end in part])]
            for part in self._parts
        ]

    def join(self, parts):
        pieces = [[] for _ in self._shapes]
        for bounds, (vector,) in zip(self._parts, parts, strict=True):
            position = 0
            for i, start, end in bounds:
                size = end - start
                pieces[i].append(vector[position : position + size])
                position += size
        return [
            ops.reshape(_concatenate(found), shape)
            for found, shape in zip(pieces, self._shapes, strict=True)
        ]

    def join_state(self, leaves):
        yield from _join(leaves, len(leaves) // len(self._parts))

    def split_state(self, leaves, number):
        sizes = [shape[0] for (shape,) in self.shapes]
        # Files were once written in parts.
        pieces = [leaves[i::number] for i in range(number)]
        if not pieces or not all(_are_one(p, sum(sizes)) for p in pieces):
            return leaves
        ends = list(itertools.accumulate(sizes))[:-1]
        split = [np.split(j, ends, axis=-1) for j in _join(leaves, number)]
        return [leaf[part] for part in range(len(sizes)) for leaf in split]


def _are_one(arrays, size):
    """Returns whether arrays join to one of a size, in the last axis."""
    return (
        all(array.shape for array in arrays)
        and len({array.shape[:-1] for array in arrays}) == 1
        and sum(array.shape[-1] for array in arrays) == size
    )


def _join(leaves, number):
    """Joins every `number`th array to one, along the last axis."""
    for i in range(number):
        pieces = [np.asarray(leaf) for leaf in leaves[i::number]]
        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces, -1)


def _concatenate(vectors):
    if len(vectors) == 1:
        return vectors[0]
    return ops.concatenate(vectors) if vectors else ops.zeros((0,), "float32")
