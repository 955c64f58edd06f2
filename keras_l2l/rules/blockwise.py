"""Rules that compute all tensors together, as rows of one array."""

import functools
import math
import typing
from collections.abc import Callable

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


class Blocks(typing.NamedTuple):
    """What a rule is told of the tensors in an array.

    All are arrays, so that groups of tensors whose arrays have one shape share
    a program.

    Attributes:
        axes: Of each tensor the number of its axes, `[tensors]`.
        inputs: Of each the number of elements in all axes but the last,
            `[tensors]`.
        outputs: Of each the number of elements in the last axis, `[tensors]`.
        model_size: The number of elements of all tensors of the model, a
            scalar.
        weights: What makes a tensor's mean of the sums of rows, `[tensors,
            rows]`; `None` for a single tensor.
        tensor_of_row: The index of the tensor that a row is of, `[rows]`;
            `None` for a single tensor.
    """

    axes: typing.Any
    inputs: typing.Any
    outputs: typing.Any
    model_size: typing.Any
    weights: typing.Any = None
    tensor_of_row: typing.Any = None

    def means(self, *arrays):
        """Returns the means over each tensor, a list of tensors `[tensors]`.

        Args:
            *arrays: Functions without arguments that return an array. They are
                not called where the means are known.
        """
        if self.weights is None:
            return [ops.mean(a(), keepdims=True)[:1] for a in arrays]
        of_rows = ops.stack([ops.sum(a(), axis=1) for a in arrays], axis=1)
        # A product: XLA adds segments up one by one. A single one, since XLA
        # compiles each by itself.
        weights = ops.convert_to_tensor(self.weights, of_rows.dtype)
        found = ops.matmul(weights, of_rows)
        return [found[:, i] for i in range(len(arrays))]

    def are_sampled(self, shape):
        """Returns whether means over an array of this shape are of a sample."""
        return self.weights is None and shape[0] >= 2 * _SAMPLE

    def spread(self, values):
        """Returns values of the tensors, `[tensors]`, to each of its rows."""
        if self.tensor_of_row is None:
            return values
        return ops.take(values, self.tensor_of_row)[:, None]


class _SampleBlocks(Blocks):
    """Describes a sample of a large tensor, and keeps what is spread."""

    def __init__(self, *args):
        self.kept = []

    def means(self, *arrays):
        lines = [ops.reshape(a(), (-1, _LINE)) for a in arrays]
        # A product first: XLA adds the elements of a row up one by one.
        number = lines[0].shape[0]
        ones = ops.full((1, number), 1 / number, dtype=lines[0].dtype)
        sums = ops.matmul(ones, ops.concatenate(lines, axis=1))
        sums = ops.reshape(sums, (len(lines), _LINE))
        found = ops.mean(sums, axis=1)
        return [found[i : i + 1] for i in range(len(lines))]

    def spread(self, values):
        self.kept.append(values)
        return values


class _KeptBlocks(Blocks):
    """Describes a large tensor of which a sample was computed before.

    Nothing is computed of all its elements but its update and its state: XLA
    makes each in one pass.
    """

    def __init__(self, *args):
        self.kept, self.dtype = [], None

    def means(self, *arrays):
        # Nothing depends on it: what is spread was kept.
        return [ops.zeros((1,), self.dtype)] * len(arrays)

    def spread(self, values):
        return self.kept.pop(0)


def sampled(arrays):
    """Returns a sample of a large tensor's arrays: the same lines of each.

    Args:
        arrays: Nest of `[size]` arrays, tensors of other shapes, which are
            returned as they are, and `None`.
    """
    size = max(
        math.prod(a.shape) for a in keras.tree.flatten(arrays) if a is not None
    )
    lines = _lines(size // _LINE)

    def of_one(array):
        if array is None or math.prod(array.shape) != size:
            return array
        rows = ops.reshape(array[: size // _LINE * _LINE], (-1, _LINE))
        return ops.reshape(ops.take(rows, lines, axis=0), (-1,))

    return keras.tree.map_structure(of_one, arrays)


@functools.lru_cache(256)
def _lines(number):
    # At random: at regular distances, all could be of one column of a matrix.
    chosen = np.random.default_rng(0).choice(
        number, _SAMPLE // _LINE, replace=False, shuffle=False
    )
    return np.sort(chosen).astype("int32")


class Joining:
    """Joins several tensors to the rows of one array, or one to a vector.

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

    def blocks(self, model_size):
        """Returns the `Blocks` that describe the tensors.

        Args:
            model_size: Scalar, the number of elements of all tensors of the
                model.
        """
        sizes = [
            (len(shape), math.prod(shape[:-1]), math.prod(shape[-1:]))
            for shape in self.shapes
        ]
        found = Blocks(*np.array(sizes, "float32").T, model_size)
        if self._is_single:
            return found
        number = len(self._sizes)
        tensor_of_row = np.repeat(np.arange(number, dtype="int32"), self._rows)
        weights = np.arange(number)[:, None] == tensor_of_row
        weights = weights / np.maximum(self._sizes, 1)[:, None]
        return found._replace(
            weights=weights.astype("float32"), tensor_of_row=tensor_of_row
        )

    def join(self, tensors):
        """Returns the array of a list of tensors."""
        if self._is_single:
            return ops.reshape(tensors[0], self.shape)
        pieces = []
        for tensor, size, rows in zip(
            tensors, self._sizes, self._rows, strict=True
        ):
            pieces.append(ops.reshape(tensor, (-1,)))
            if rows * _BLOCK > size:
                padding = (rows * _BLOCK - size,)
                pieces.append(ops.zeros(padding, tensor.dtype))
        return ops.reshape(ops.concatenate(pieces), self.shape)

    def split(self, array):
        """Returns the list of tensors of an array."""
        flat, start, tensors = ops.reshape(array, (-1,)), 0, []
        for shape, size, rows in zip(
            self.shapes, self._sizes, self._rows, strict=True
        ):
            tensors.append(ops.reshape(flat[start : start + size], shape))
            start += rows * _BLOCK
        return tensors


class BlockwiseRule(base.UpdateRule):
    """Rule that computes small tensors together, each with its own signals.

    A tensor's update depends on no other tensor. Large ones, of 32,768 elements
    or more, are computed each by itself. Subclasses implement
    `init_block_state` and `block_step`.
    """

    def init_block_state(
        self, shape: tuple[int, ...], tensors: int
    ) -> dict[str, typing.Any]:
        """Returns the state before the first step, a dict of tensors.

        Each is of the array's shape, or `[tensors]`.

        Args:
            shape: Tuple of ints, of the array.
            tensors: Int, how many are in it.
        """
        raise NotImplementedError

    def block_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        state: dict[str, typing.Any],
        blocks: Blocks,
        inputs: base.StepInputs,
    ) -> tuple[typing.Any, dict[str, typing.Any]]:
        """Computes the updates of the tensors of one group.

        What is computed from `blocks.means` must pass `blocks.spread` before it
        meets elements of the array: of a large tensor, means are those of a
        sample, and known before the elements are computed.

        Args:
            meta_params: Nest of tensors as from `init_meta_params`.
            gradient: Array, 0 where a coordinate is masked.
            param: Array.
            state: As from `init_block_state`.
            blocks: `Blocks`.
            inputs: `StepInputs` without those of tensors.

        Returns:
            Tuple of the array of updates, and the state. Where a coordinate
            is masked, neither is used.
        """
        raise NotImplementedError

    def masked_block_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        mask: typing.Any,
        state: dict[str, typing.Any],
        blocks: Blocks,
        inputs: base.StepInputs,
    ) -> tuple[typing.Any, dict[str, typing.Any]]:
        """Computes updates and state, which rest where `mask` is False.

        Args:
            meta_params, param, state, blocks, inputs: As for `block_step`.
            gradient: Array; any where a coordinate is masked.
            mask: Array of bools or `None`.
        """
        if not blocks.are_sampled(gradient.shape):
            return self._masked(
                meta_params, gradient, param, mask, state, blocks, inputs
            )
        sample = sampled((gradient, param, mask, state))
        known = self.sample_step(meta_params, *sample, blocks, inputs)
        return self.known_step(
            meta_params, gradient, param, mask, state, known, blocks, inputs
        )

    def sample_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        mask: typing.Any,
        state: dict[str, typing.Any],
        blocks: Blocks,
        inputs: base.StepInputs,
    ) -> tuple[list[typing.Any], dict[str, typing.Any]]:
        """Computes what an update of a large tensor needs to know of it all.

        Args:
            meta_params, gradient, param, mask, state, blocks, inputs: As for
                `masked_block_step`, of a sample.

        Returns:
            Tuple of a list of what is spread, and a dict of those parts of the
            next state that are not of elements.
        """
        blocks = _SampleBlocks(*blocks)
        _, after = self._masked(
            meta_params, gradient, param, mask, state, blocks, inputs
        )
        return blocks.kept, _of_tensors(after, gradient)

    def known_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        mask: typing.Any,
        state: dict[str, typing.Any],
        known: tuple[list[typing.Any], dict[str, typing.Any]],
        blocks: Blocks,
        inputs: base.StepInputs,
    ) -> tuple[typing.Any, dict[str, typing.Any]]:
        """Computes `masked_block_step` with what `sample_step` returned."""
        spread, of_tensors = known
        blocks = _KeptBlocks(*blocks)
        blocks.kept, blocks.dtype = list(spread), spread[0].dtype
        update, after = self._masked(
            meta_params, gradient, param, mask, state, blocks, inputs
        )
        return update, {**after, **of_tensors}

    def _masked(
        self, meta_params, gradient, param, mask, state, blocks, inputs
    ):
        if mask is None:
            return self.block_step(
                meta_params, gradient, param, state, blocks, inputs
            )
        # A NaN must not enter the rule: it spreads by 0 * NaN.
        gradient = ops.where(mask, gradient, ops.zeros_like(gradient))
        update, after = self.block_step(
            meta_params, gradient, param, state, blocks, inputs
        )
        update = ops.where(mask, update, ops.zeros_like(update))
        rest = {
            name: ops.where(mask, value, state[name])
            for name, value in after.items()
            if name not in _of_tensors(after, gradient)
        }
        return update, {**after, **rest}

    def init_state(self, shapes):
        """Returns a list with the state of each group."""
        found = []
        for group in groups(shapes):
            joining = Joining([shapes[i] for i in group])
            found.append(self.init_block_state(joining.shape, len(group)))
        return found

    def step(self, meta_params, inputs, state):
        return self.step_groups(
            self.masked_block_step, meta_params, inputs, state
        )

    def step_groups(
        self,
        masked_block_step: Callable[
            ..., tuple[typing.Any, dict[str, typing.Any]]
        ],
        meta_params: typing.Any,
        inputs: base.StepInputs,
        state: list[typing.Any],
    ) -> tuple[list[typing.Any], list[typing.Any]]:
        """Computes a step, with another function in place of one.

        Args:
            masked_block_step: Function like that of the rule.
            meta_params, inputs, state: As for `step`.
        """
        shapes = [tuple(g.shape) for g in inputs.gradients]
        updates, after, masks = [None] * len(shapes), [], inputs.masks()
        rest = inputs._replace(
            gradients=None, params=None, mask=None, model_size=None
        )
        for group, of_group in zip(groups(shapes), state, strict=True):
            joining = Joining([shapes[i] for i in group])
            gradient, param = (
                joining.join([tensors[i] for i in group])
                for tensors in (inputs.gradients, inputs.params)
            )
            mask = masks and joining.join([masks[i] for i in group])
            update, of_group = masked_block_step(
                meta_params,
                gradient,
                param,
                mask,
                of_group,
                joining.blocks(inputs.size()),
                rest,
            )
            after.append(of_group)
            found = joining.split(update)
            for i, one in zip(group, found, strict=True):
                updates[i] = one
        return updates, after


def _of_tensors(state, array):
    """Returns the parts of a state that are not of an array's elements."""
    return {n: v for n, v in state.items() if v.shape != array.shape}
