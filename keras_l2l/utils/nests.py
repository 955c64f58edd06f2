"""Nests of tensors, such as meta-parameters and states."""

import functools
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


def pack_leaves(structure, leaves):
    """Returns a nest like `structure` from leaves ordered as `named_leaves`."""
    return _pack(structure, iter(leaves))


def packer(nest):
    """Returns a function that packs a list of leaves into a nest like this."""
    structure = keras.tree.map_structure(lambda leaf: 0, nest)
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
