"""Nests of tensors, such as meta-parameters and states."""

import functools
import itertools
import math
import typing

import keras


def count_params(tensors: typing.Any) -> int:
    """Returns the number of scalars in a nest of tensors."""
    return sum(math.prod(t.shape) for t in keras.tree.flatten(tensors))


def named_leaves(nest, name=""):
    """Yields pairs `("lstm_0/kernel", leaf)`, with dicts in sorted order.

    The order is the same on every Keras backend, unlike that of `keras.tree`.

    Args:
        nest: Nest of dicts, lists and tuples.
    """
    if isinstance(nest, dict):
        children = sorted(nest.items())
    elif isinstance(nest, (list, tuple)):
        children = enumerate(nest)
    else:
        yield name, nest
        return
    for key, child in children:
        yield from named_leaves(child, f"{name}/{key}" if name else str(key))


def leaves_of(nest):
    """Returns the list of leaves, in the order of `named_leaves`."""
    found = []
    _collect(nest, found)
    return found


def _collect(nest, found):
    if isinstance(nest, dict):
        for key in sorted(nest):
            _collect(nest[key], found)
    elif isinstance(nest, (list, tuple)):
        for child in nest:
            _collect(child, found)
    else:
        found.append(nest)


def structure_of(nest):
    """Returns what is equal for nests of equal structure, and hashable."""
    if isinstance(nest, dict):
        return tuple((key, structure_of(nest[key])) for key in sorted(nest))
    if isinstance(nest, (list, tuple)):
        return (type(nest), *map(structure_of, nest))
    return None


def pack_leaves(structure, leaves):
    """Returns a nest like `structure` from leaves ordered as `named_leaves`."""
    return _pack(structure, iter(leaves))


def packer(nest):
    """Returns a function that packs a list of leaves into a nest like this."""
    # Without the leaves.
    structure = _pack(nest, itertools.repeat(0))
    return functools.partial(pack_leaves, structure)


def _pack(structure, leaves):
    if isinstance(structure, dict):
        packed = {
            key: _pack(structure[key], leaves) for key in sorted(structure)
        }
        return {key: packed[key] for key in structure}
    if isinstance(structure, (list, tuple)):
        children = [_pack(child, leaves) for child in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*children)
        return type(structure)(children)
    return next(leaves)
