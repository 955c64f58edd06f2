"""Converts meta-parameters to named arrays and to strings, and back."""

import base64
import hashlib

import numpy as np
from keras import ops

from keras_l2l.rules import specs
from keras_l2l.utils import nests


class PresetError(ValueError):
    """A preset that is missing, damaged or not one of this package."""


def to_arrays(rule, meta_params):
    """Returns meta-parameters as a flat dict `"lstm_0/kernel"` -> array.

    Raises:
        PresetError: if they do not fit the rule, or are not finite.
    """
    arrays = {
        name: ops.convert_to_numpy(ops.convert_to_tensor(value))
        for name, value in nests.named_leaves(meta_params)
    }
    from_arrays(rule, arrays)
    return arrays


def checked(rule, meta_params):
    """Returns meta-parameters as float32 tensors, and their SHA-256.

    Raises:
        PresetError: if they do not fit the rule, or are not finite.
    """
    found, digest = to_arrays(rule, meta_params), hashlib.sha256()
    for array in found.values():
        digest.update(array.astype("<f4").tobytes())
    return from_arrays(rule, found), digest.hexdigest()


def from_arrays(rule, arrays):
    """Returns the rule's meta-parameters from a flat dict of arrays.

    Raises:
        PresetError: if names or shapes do not fit the rule, or values are
            not finite.
    """
    expected = _expected(rule)
    shapes = {
        name: tuple(value.shape) for name, value in nests.named_leaves(expected)
    }
    received = {name: tuple(a.shape) for name, a in arrays.items()}
    if shapes != received:
        names = sorted(set(shapes) | set(received))
        differences = "; ".join(
            f"{name}: expected {shapes.get(name, 'nothing')}, "
            f"received {received.get(name, 'nothing')}"
            for name in names
            if shapes.get(name) != received.get(name)
        )
        raise PresetError(
            "The meta-parameters must have the names and shapes of "
            f"{type(rule).__name__}({rule.get_config()}). {differences}"
        )
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise PresetError(
                "Meta-parameters must be finite floating-point numbers. "
                f"Received: {name} of dtype {array.dtype} with "
                f"{np.size(array)} values, not all of them finite floats."
            )
    return nests.pack_leaves(
        expected,
        [
            ops.convert_to_tensor(arrays[name], dtype="float32")
            for name, _ in nests.named_leaves(expected)
        ],
    )


def _expected(rule):
    try:  # Only shapes, so a forged configuration can't fill the memory.
        return specs.of(rule, "init_meta_params", 0)
    except RuntimeError as error:  # PyTorch, where no memory could hold them.
        raise PresetError(f"{type(rule).__name__}: {error}") from error


def encode(rule, meta_params):
    """Returns meta-parameters as JSON-able strings, for `get_config`."""
    return {
        name: base64.b64encode(array.astype("<f4").tobytes()).decode()
        for name, array in to_arrays(rule, meta_params).items()
    }


def decode(rule, encoded):
    """Returns meta-parameters from strings as returned by `encode`."""
    shapes = {
        name: value.shape for name, value in nests.named_leaves(_expected(rule))
    }
    arrays = {}
    for name, string in encoded.items():
        array = np.frombuffer(base64.b64decode(string), "<f4")
        shape = tuple(shapes.get(name, array.shape))
        if array.size == np.prod(shape, dtype=int):
            array = array.reshape(shape)
        arrays[name] = array
    return from_arrays(rule, arrays)
