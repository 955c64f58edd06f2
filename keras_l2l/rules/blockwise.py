"""Rules that compute all tensors together, as rows of one array."""

import functools
import math
import typing
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import base
from keras_l2l.utils import backends

# Elements in a row of a joined array. The layout of saved states depends on it,
# and on which tensors are joined.
_BLOCK = 64
# Means over a large tensor are of a sample of about so many elements: the
# error of normally distributed squares is about 1 %, and a pass over all would
# take as long as the update.
_SAMPLE = 2**14
# Elements of a tensor that is large. It is computed by itself where all that
# are joined would not fit into the processor's cache: to join it with others
# would take as long as its update. Each by itself takes a second to compile.
_LARGE = 2 * _SAMPLE
_JOINED = 2**18
# Elements that a sample takes in a row: a whole line of the processor's cache.
_LINE = 16
# Stands for the elements of a tensor where all are known.
_ALL = 1e30


def groups(shapes):
    """Returns which tensors are computed together, lists of indices.

    Args:
        shapes: List of the tensors' shapes.
    """
    sizes = np.array([math.prod(shape) for shape in shapes], int)
    order = np.argsort(sizes, kind="stable")
    fit = np.cumsum(sizes[order]) <= _JOINED
    joined = sorted(order[fit | (sizes[order] < _LARGE)].tolist())
    others = set(range(len(sizes))).difference(joined)
    return [*([joined] if joined else []), *([i] for i in sorted(others))]


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
        weights: What makes a tensor's mean of the sums of rows, `[rows,
            tensors]`; `None` for the mean of a single array. Where there is a
            `sample`, of its rows.
        tensor_of_row: The index of the tensor that a row is of, `[rows]`;
            `None` for a single tensor.
        sample: The indices of the lines of 16 elements that means are of, as
            many of each tensor as make whole rows; `None` for means of all.
        tensor_of_sample_row: As `tensor_of_row`, for the rows of the sample.
        sampled: Of each tensor how many elements its means are of, `[tensors]`,
            or a very large number if they are of all. Of a sparse tensor, such
            as a large embedding, the sample may be one of zeros alone.
    """

    axes: typing.Any
    inputs: typing.Any
    outputs: typing.Any
    model_size: typing.Any
    weights: typing.Any = None
    tensor_of_row: typing.Any = None
    sample: typing.Any = None
    tensor_of_sample_row: typing.Any = None
    sampled: typing.Any = None

    def once(self, function):
        """Returns `function()`, a nest of what is not of elements.

        Where means are those of a sample, a step is computed twice: of the
        sample, and of all elements. The second time the function is not called,
        and the result is that of the first.

        Args:
            function: Function without arguments.
        """
        return function()

    def means(self, *arrays):
        """Returns the means over each tensor, a list of tensors `[tensors]`.

        It must be called within `once` or `spread`.

        Args:
            *arrays: Arrays.
        """
        if self.weights is None:
            return [ops.mean(array, keepdims=True)[:1] for array in arrays]
        rows = ops.concatenate(arrays, axis=0)
        # Two products: XLA adds the elements of a row up one by one, and
        # compiles each sum by itself.
        total, width = rows.shape
        sums = ops.matmul(rows, ops.ones((width, 1), rows.dtype))
        sums = ops.reshape(sums, (len(arrays), total // len(arrays)))
        weights = ops.convert_to_tensor(self.weights, rows.dtype)
        return ops.unstack(ops.matmul(sums, weights))

    def spread(self, values):
        """Returns values of the tensors, to each of its rows.

        Args:
            values: Function without arguments that returns a tensor
                `[tensors]`, called as by `once`.
        """
        values = self.once(values)
        if self.tensor_of_row is None:
            return values
        return _to_rows(values, self.tensor_of_row)


class _SampleBlocks(Blocks):
    """Describes a sample of the tensors, and keeps what is computed once."""

    def __init__(self, *args):
        self.kept = []

    def once(self, function):
        before = len(self.kept)
        value = function()
        # Without what was kept within it, as `_KeptBlocks` does not call it.
        self.kept[before:] = [value]
        return value


class _KeptBlocks(Blocks):
    """Describes tensors of which a sample was computed before.

    Nothing is computed of all their elements but updates and state: XLA makes
    each in one pass.
    """

    def __init__(self, *args):
        self.kept = []

    def once(self, function):
        return self.kept.pop(0)

    def means(self, *arrays):
        raise ValueError(
            "`blocks.means` must be called within `blocks.once` or "
            "`blocks.spread`: in large tensors, means are those of a sample."
        )


def _to_rows(values, tensor_of_row):
    return ops.expand_dims(backends.gather(values, tensor_of_row), 1)


def sampled(arrays, sample):
    """Returns a sample of a group's arrays, rows of the same lines of each.

    Args:
        arrays: Nest of arrays as from `Joining.join`, tensors of other shapes,
            which are returned as they are, and `None`.
        sample: As in `Blocks`.
    """
    leaves = [a for a in keras.tree.flatten(arrays) if a is not None]
    shape = max((tuple(a.shape) for a in leaves), key=math.prod)

    def of_one(array):
        if array is None or tuple(array.shape) != shape:
            return array
        size = math.prod(shape) // _LINE * _LINE
        if size < math.prod(shape):
            array = ops.reshape(array, (-1,))[:size]
        lines = ops.reshape(array, (-1, _LINE))
        return ops.reshape(backends.gather(lines, sample), (-1, _BLOCK))

    return keras.tree.map_structure(of_one, arrays)


@functools.lru_cache(1024)
def _chosen(number, chosen):
    """Returns indices of lines, at most `chosen` of `number`, sorted."""
    if number <= chosen:
        return np.arange(number, dtype="int32")
    # At random: at regular distances, all could be of one column of a matrix.
    rng = np.random.default_rng(0)
    lines = rng.choice(number, chosen, replace=False, shuffle=False)
    return np.sort(lines).astype("int32")


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
        sampled = [
            _SAMPLE if rows * _BLOCK > _SAMPLE else _ALL for rows in self._rows
        ]
        found = Blocks(
            *np.array(sizes, "float32").T,
            model_size,
            sampled=np.array(sampled, "float32"),
        )
        if self._is_single:
            (size,) = self._sizes
            if size < 2 * _SAMPLE:
                return found._replace(sampled=np.array([_ALL], "float32"))
            rows = _SAMPLE // _BLOCK
            return found._replace(
                weights=np.full((rows, 1), 1 / _SAMPLE, "float32"),
                sample=_chosen(size // _LINE, _SAMPLE // _LINE),
            )
        number, starts = len(self._sizes), np.cumsum([0, *self._rows])
        tensor_of_row = np.repeat(np.arange(number, dtype="int32"), self._rows)
        lines_of_row = _BLOCK // _LINE
        lines = np.concatenate(
            [
                start * lines_of_row
                + _chosen(rows * lines_of_row, _SAMPLE // _LINE)
                for start, rows in zip(starts[:-1], self._rows, strict=True)
            ]
        ).astype("int32")
        rows = tensor_of_row[lines[::lines_of_row] // lines_of_row]
        # The last lines of a tensor have fewer elements, or none.
        tensor_of_line = np.repeat(rows, lines_of_row)
        index = lines - starts[tensor_of_line] * lines_of_row
        left = np.array(self._sizes)[tensor_of_line] - index * _LINE
        of_tensor = np.bincount(
            tensor_of_line, np.clip(left, 0, _LINE), minlength=number
        )
        weights = (rows[:, None] == np.arange(number)) / np.maximum(
            of_tensor, 1
        )
        found = found._replace(
            weights=weights.astype("float32"), tensor_of_row=tensor_of_row
        )
        if len(rows) == len(tensor_of_row):
            return found
        return found._replace(sample=lines, tensor_of_sample_row=rows)

    def join(self, tensors):
        """Returns the array of a list of tensors."""
        if self._is_single:
            return ops.reshape(tensors[0], self.shape)
        joined = backends.joined(
            [ops.reshape(tensor, (-1,)) for tensor in tensors],
            [rows * _BLOCK for rows in self._rows],
        )
        return ops.reshape(joined, self.shape)

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

    A tensor's update depends on no other tensor. The smallest, up to 262,144
    elements in all, and all of fewer than 32,768 elements are computed
    together, the others each by itself. Subclasses implement
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

        What is not of elements must be computed within `blocks.once` or
        `blocks.spread`, as are `blocks.means` and the parts of the state that
        are of tensors: means over more than 16,384 elements of a tensor are
        those of a sample, and known before the elements are computed.

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
        if blocks.sample is None:
            return self._masked(
                meta_params, gradient, param, mask, state, blocks, inputs
            )
        sample = sampled((gradient, param, mask, state), blocks.sample)
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
    ) -> list[typing.Any]:
        """Computes what updates need to know of whole tensors.

        Args:
            meta_params, gradient, param, mask, state, blocks, inputs: As for
                `masked_block_step`, of a sample.

        Returns:
            List of what is computed once, nests of tensors.
        """
        blocks = _SampleBlocks(
            *blocks._replace(tensor_of_row=blocks.tensor_of_sample_row)
        )
        self._masked(meta_params, gradient, param, mask, state, blocks, inputs)
        return blocks.kept

    def known_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        mask: typing.Any,
        state: dict[str, typing.Any],
        known: list[typing.Any],
        blocks: Blocks,
        inputs: base.StepInputs,
    ) -> tuple[typing.Any, dict[str, typing.Any]]:
        """Computes `masked_block_step` with what `sample_step` returned."""
        blocks = _KeptBlocks(*blocks)
        blocks.kept = list(known)
        return self._masked(
            meta_params, gradient, param, mask, state, blocks, inputs
        )

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
