"""Rules that compute all tensors together, as rows of one array."""

import math

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import base

# Elements in a row of a joined array.
_BLOCK = 64
# Means over a large tensor are of a sample of about so many elements: the
# error of normally distributed squares is about 1 %, and a pass over all would
# take as long as the update.
_SAMPLE = 2**14
# Elements of a tensor that is large, and so computed by itself: to join it with
# others would take as long as its update.
_LARGE = 2 * _SAMPLE
# Elements that a sample takes in a row: a whole line of the processor's cache.
_LINE = 16


def groups(shapes):
    """Returns which tensors are computed together, lists of indices.

    Args:
        shapes: List of the tensors' shapes.
    """
    large = [i for i, s in enumerate(shapes) if math.prod(s) >= _LARGE]
    small = [i for i in range(len(shapes)) if i not in set(large)]
    return [*([small] if small else []), *([i] for i in large)]


class Blocks:
    """Several tensors as rows of one array, or a single one as a vector.

    Whatever their number, a rule then takes the same few operations. The last
    row of each tensor is padded with 0.

    Args:
        shapes: List of the tensors' shapes.

    Attributes:
        shapes: The same, as tuples.
        shape: Tuple of ints, of the array.
    """

    def __init__(self, shapes):
        self.shapes = [tuple(shape) for shape in shapes]
        self._sizes = [math.prod(shape) for shape in self.shapes]
        self._is_single = len(self._sizes) == 1
        self._rows = [-(-size // _BLOCK) for size in self._sizes]
        self.shape = (sum(self._rows), _BLOCK)
        if self._is_single:
            self.shape = (self._sizes[0],)
        self._tensor_of_row = np.repeat(
            np.arange(len(self._sizes), dtype="int32"), self._rows
        )

    def join(self, tensors):
        """Returns the array of a list of tensors."""
        if self._is_single:
            return ops.reshape(tensors[0], self.shape)
        if tensors[0].dtype == ops.zeros((), "bool").dtype:
            return self._joined(tensors)

        # Not all backends know the derivative of `slice_update`.
        @ops.custom_gradient
        def joined(*tensors):
            def derivative(*args, upstream=None):
                (upstream,) = args if upstream is None else (upstream,)
                return tuple(self.split(upstream))

            return self._joined(tensors), derivative

        return joined(*tensors)

    def _joined(self, tensors):
        flat = [ops.reshape(t, (-1,)) for t in tensors]
        dtype, starts = tensors[0].dtype, np.cumsum([0, *self._rows]) * _BLOCK
        if keras.backend.backend() == "torch":
            pieces = []
            for i, piece in enumerate(flat):
                padding = starts[i + 1] - starts[i] - self._sizes[i]
                pieces.extend([piece, ops.zeros((int(padding),), dtype)])
            return ops.reshape(ops.concatenate(pieces), self.shape)
        # Written one after the other: XLA would compute a concatenation anew
        # wherever it is used.
        array = ops.zeros((int(starts[-1]),), dtype)
        for start, piece in zip(starts[:-1], flat, strict=True):
            array = ops.slice_update(array, (int(start),), piece)
        return ops.reshape(array, self.shape)

    def split(self, array):
        """Returns the list of tensors of an array."""
        flat, start, tensors = ops.reshape(array, (-1,)), 0, []
        for shape, size, rows in zip(
            self.shapes, self._sizes, self._rows, strict=True
        ):
            tensors.append(ops.reshape(flat[start : start + size], shape))
            start += rows * _BLOCK
        return tensors

    def means(self, array):
        """Returns the means over each tensor, `[tensors]`; of one, a sample."""
        if self._is_single:
            return ops.mean(self._sampled(array), keepdims=True)[:1]
        of_rows = ops.sum(array, axis=1)
        # A product: XLA adds segments up one by one.
        number = len(self._sizes)
        weights = np.arange(number)[:, None] == self._tensor_of_row
        weights = weights / np.maximum(self._sizes, 1)[:, None]
        weights = ops.convert_to_tensor(weights, of_rows.dtype)
        return ops.matmul(weights, of_rows[:, None])[:, 0]

    def spread(self, values):
        """Returns values of the tensors, `[tensors]`, to each of its rows."""
        if self._is_single:
            return values
        return ops.take(values, self._tensor_of_row)[:, None]

    def _sampled(self, array):
        size = self._sizes[0]
        step = size // _SAMPLE
        if step < 2:
            return array
        # Odd: else all lines could be of the same columns of a matrix.
        width = _LINE * (step | 1)
        rows = size // width
        lines = ops.reshape(array[: rows * width], (rows, width))[:, :_LINE]
        # A product first: XLA adds the elements of a row up one by one.
        ones = ops.full((1, rows), 1 / rows, dtype=array.dtype)
        return ops.matmul(ones, lines)[0]


class BlockwiseRule(base.UpdateRule):
    """Rule that computes small tensors together, each with its own signals.

    A tensor's update depends on no other tensor. Large ones, of 32,768 elements
    or more, are computed each by itself. Subclasses implement
    `init_block_state` and `block_step`.
    """

    def init_block_state(self, blocks):
        """Returns the state before the first step, a dict of tensors.

        Each is of the shape `blocks.shape`, or `[tensors]`.

        Args:
            blocks: `Blocks`.
        """
        raise NotImplementedError

    def block_step(self, meta_params, gradient, param, state, blocks, inputs):
        """Computes the updates of the tensors of one group.

        Args:
            meta_params: Nest of tensors as from `init_meta_params`.
            gradient: Array, 0 where a coordinate is masked.
            param: Array.
            state: As from `init_block_state`.
            blocks: `Blocks`.
            inputs: `StepInputs`, for what is not of one tensor.

        Returns:
            Tuple of the array of updates, and the state. Where a coordinate
            is masked, neither is used.
        """
        raise NotImplementedError

    def init_state(self, shapes):
        """Returns a list with the state of each group."""
        return [
            self.init_block_state(Blocks([shapes[i] for i in group]))
            for group in groups(shapes)
        ]

    def step(self, meta_params, inputs, state):
        updates, after = [None] * len(inputs.gradients), []
        divided = groups([tuple(g.shape) for g in inputs.gradients])
        for group, of_group in zip(divided, state, strict=True):
            found, of_group = self._group_step(
                meta_params, inputs, of_group, group
            )
            after.append(of_group)
            for i, update in zip(group, found, strict=True):
                updates[i] = update
        return updates, after

    def _group_step(self, meta_params, inputs, state, group):
        """Returns the updates of the tensors of a group, and its state."""

        def chosen(tensors):
            return tensors and [tensors[i] for i in group]

        gradients = chosen(inputs.gradients)
        blocks = Blocks([g.shape for g in gradients])
        gradient = blocks.join(gradients)
        mask = self._joined_mask(blocks, chosen(inputs.mask))
        if mask is not None:
            # A NaN must not enter the rule: it spreads by 0 * NaN.
            gradient = ops.where(mask, gradient, ops.zeros_like(gradient))
        update, after = self.block_step(
            meta_params,
            gradient,
            blocks.join(chosen(inputs.params)),
            state,
            blocks,
            inputs,
        )
        if mask is not None:
            update = ops.where(mask, update, ops.zeros_like(update))
            after = {
                name: ops.where(mask, value, state[name])
                if value.shape == blocks.shape
                else value
                for name, value in after.items()
            }
        return blocks.split(update), after

    @staticmethod
    def _joined_mask(blocks, mask):
        if mask is None:
            return None
        return blocks.join(
            [
                ops.broadcast_to(True if m is None else m, shape)
                for m, shape in zip(mask, blocks.shapes, strict=True)
            ]
        )
