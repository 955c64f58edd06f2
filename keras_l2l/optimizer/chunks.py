"""Functions of long vectors, a chunk at a time, with little extra memory."""

import math

import keras
from keras import ops

from keras_l2l.utils import backends
from keras_l2l.utils import nests
from keras_l2l.utils import tracing

# Coordinates. For the paper's LSTM a chunk takes about 1 kB each, in caches
# or nearly; smaller chunks cost more in overhead than caches bring.
CHUNK = 8192
# Coordinates of a slice on PyTorch, where the next operation then reads from a
# cache what each writes. Smaller ones are not computed by several threads.
SLICE = 2**17


def map_in_chunks(function, vector, state, mask=None):
    """Computes `function(vector, state, mask)` a chunk at a time.

    Compiled by XLA, the state is updated in place. Where nothing is written in
    place, it is computed as a whole. Not differentiable.

    Args:
        function: Pure function that returns a pair of a vector and the new
            state, coordinate by coordinate: what it returns for a part of
            them is that part of what it returns for all. Without a mask it
            returns the same as with one that is all True.
        vector: Tensor of shape `[n]`.
        state: Nest of tensors of shape `[..., n]`.
        mask: Bool tensor of shape `[n]` or `None`.

    Returns:
        Pair of a vector `[n]` and the new state.
    """
    n = vector.shape[0]
    if n < 2 * CHUNK or not backends.writes_in_place():
        return function(vector, state, mask)

    def run(state, start, mask):
        return function(
            _slice(vector, start),
            _slice(state, start),
            None if mask is None else _slice(mask, start),
        )

    chunks, rest = divmod(n, CHUNK)
    results = ops.zeros_like(vector), state
    # What does not fill a chunk, as the end of one of which all else is masked.
    waiting = _slice(results, n - CHUNK)
    if rest:
        end = ops.arange(n) >= chunks * CHUNK
        end = end if mask is None else ops.logical_and(mask, end)
        waiting = run(state, n - CHUNK, end)
    if mask is None:
        return _loop(run, results, waiting, None, 0, chunks)
    # Most steps mask nothing, and are faster without. One of two loops takes
    # no turn: a `cond` would copy the state.
    split = ops.where(ops.all(mask), chunks, 0)
    results = _loop(run, results, waiting, None, 0, split)
    waiting = _slice(results, n - CHUNK)
    return _loop(run, results, waiting, mask, split, chunks)


def has_slices(tensors):
    """Returns whether `run_in_slices` divides one of these tensors.

    A GPU starts each operation by itself, which costs more than a pass, and
    `torch.compile` joins operations.
    """
    return tracing.traces() and any(
        t.device.type == "cpu" and math.prod(t.shape) > SLICE for t in tensors
    )


def run_in_slices(step, *args):
    """Returns `step(*args)` on PyTorch, a slice at a time.

    Args:
        step: Function that updates each coordinate by itself: it returns a
            tensor `[n]`, and assigns to variables.
        *args: Nests of `None`, and of tensors and variables, each `[n]` or the
            same for all coordinates. The first is a tensor `[n]`, of which
            `has_slices` is true.
    """
    import torch

    leaves, pack = nests.leaves_of(args), nests.packer(args)
    n = len(leaves[0])
    # Slices have one size, and so one program: the last two may overlap.
    size = math.ceil(n / math.ceil(n / SLICE))

    def sliced(start, copies=False):
        found = []
        for leaf in leaves:
            if leaf is not None and tuple(leaf.shape) == (n,):
                value = backends.read(leaf)[start : start + size]
                if hasattr(leaf, "assign"):
                    value = _TorchSlice(value.clone() if copies else value)
                leaf = value
            found.append(leaf)
        return found

    update = torch.empty_like(leaves[0])
    last = sliced(n - size, copies=True)
    of_last = step(*pack(last))
    for start in range(0, n - size, size):
        update[start : start + size] = step(*pack(sliced(start)))
    update[n - size :] = of_last
    for leaf, piece in zip(leaves, last, strict=True):
        if isinstance(piece, _TorchSlice):
            backends.read(leaf)[n - size :] = piece.value
    return update


class _TorchSlice:
    """Stands for a part of a variable, which is written in place."""

    def __init__(self, value):
        self.value, self.dtype, self.shape = value, value.dtype, value.shape

    def assign(self, value):
        self.value.copy_(value)


def _loop(run, results, waiting, mask, start, stop):
    """Returns the results after the chunks from `start` to `stop`.

    XLA works in place only where nothing is read from a buffer any more when
    it is written. Hence a chunk's results wait, and are written before the
    next chunk is read. Those that wait at first are of the last coordinates.
    """
    last = results[0].shape[0] - CHUNK

    def write(k, results, waiting):
        position = ops.where(k == start, last, (k - 1) * CHUNK)
        return _write(results, waiting, position)

    def body(k, carry):
        results = write(k, *carry)
        return results, run(results[1], k * CHUNK, mask)

    carry = ops.fori_loop(start, stop, body, (results, waiting))
    return write(stop, *carry)


def _slice(nest, start):
    """Returns a chunk, from `start`, of every tensor `[..., n]`."""
    return keras.tree.map_structure(
        lambda t: ops.slice(t, _last(t, start), (*t.shape[:-1], CHUNK)),
        nest,
    )


def _write(nest, parts, start):
    return keras.tree.map_structure(
        lambda t, part: ops.slice_update(t, _last(t, start), part),
        nest,
        parts,
    )


def _last(tensor, start):
    """Returns indices that are 0 but for the last axis."""
    zeros = [0] * (len(tensor.shape) - 1)
    return ops.stack([*zeros, start])
