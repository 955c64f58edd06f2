"""Checks of arguments, with their error messages.

They return valid values as plain Python values, since NumPy's numbers are
accepted, but JSON does not support them.
"""

import math
import reprlib
import sys

import numpy as np

# The most characters of a user's value in a message.
_SHOWN = 160


def plain(value):
    """Returns a NumPy number as a Python number, and other values unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def is_int(value):
    """Returns whether a value is an int of Python or NumPy, but not a bool."""
    return type(plain(value)) is int


def is_number(value):
    """Returns whether a value is an int or a float, but not a bool."""
    return type(plain(value)) in (int, float)


class _Short(reprlib.Repr):
    """`repr` that shortens containers and omits the content of arrays."""

    def __init__(self):
        super().__init__()
        self.maxother = self.maxstring = self.maxlong = _SHOWN

    def repr_instance(self, x, level):
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        if shape is None or dtype is None or not len(shape):
            return super().repr_instance(x, level)
        return f"<{type(x).__name__} of shape {tuple(shape)}, {dtype}>"


def shown(value):
    """Returns a short `repr` of a value, for a message.

    Args:
        value: Any value, including arrays and long lists.
    """
    return shortened(_Short().repr(value))


def shortened(text, length=_SHOWN):
    """Returns the first `length` characters of a text, for a message."""
    text = str(text)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def require_int(name, value, minimum=1, maximum=2**31 - 1):
    """Returns an int, or raises unless it is from `minimum` to `maximum`.

    Args:
        name: String, the argument's name.
        value: What was received.
        minimum: Int. Defaults to 1.
        maximum: Int. Defaults to the largest of 32 bits.

    Raises:
        ValueError: otherwise. Bools and floats are not ints.
    """
    value = plain(value)
    if not is_int(value) or not minimum <= value <= maximum:
        raise ValueError(
            f"`{name}` must be an int from {minimum} to {maximum}. Received: "
            f"{name}={shown(value)}"
        )
    return value


def require_seeds(name, seeds):
    """Returns a list of ints, or raises unless they are ints.

    Args:
        name: String, the argument's name.
        seeds: What was received.

    Raises:
        ValueError: otherwise, or if there is none.
    """
    if is_int(seeds):
        raise ValueError(
            f"`{name}` must be a list or range of ints. Received: "
            f"{name}={seeds}. Pass range({seeds})."
        )
    seeds = list(seeds)
    if not seeds or not all(map(is_int, seeds)):
        raise ValueError(
            f"`{name}` must be ints, at least one. Received: "
            f"{name}={shown(seeds)}. Pass range(3), for example."
        )
    return list(map(int, seeds))


def require_positive(name, value):
    """Returns a number, or raises unless it is finite and above 0.

    Args:
        name: String, the argument's name.
        value: What was received.

    Raises:
        ValueError: otherwise.
    """
    value = plain(value)
    # An int may be too large for a float.
    if not is_number(value) or not 0 < value < sys.float_info.max:
        raise ValueError(
            f"`{name}` must be a positive finite number. Received: "
            f"{name}={shown(value)}"
        )
    return value


def require_number(name, value, below=math.inf):
    """Returns a number, or raises unless it is in [0, `below`).

    Args:
        name: String, the argument's name.
        value: What was received.
        below: Float. Defaults to infinity.

    Raises:
        ValueError: otherwise.
    """
    value = plain(value)
    if not is_number(value) or not 0 <= value < below:
        raise ValueError(
            f"`{name}` must be a number in [0, {below}). Received: "
            f"{name}={shown(value)}"
        )
    return value


def require_bool(name, value):
    """Returns a bool, or raises ValueError unless it is True or False."""
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(
            f"`{name}` must be a bool. Received: {name}={shown(value)}"
        )
    return value


def require_real(variables):
    """Raises ValueError for a complex variable.

    Rules see float32 tensors, which would be only the real part.

    Args:
        variables: List of `keras.Variable`s, or of objects with their `path`
            and `dtype`.
    """
    for variable in variables:
        if "complex" in str(variable.dtype):
            raise ValueError(
                "The variables of a learned optimizer must be real. Received: "
                f"{variable.path} of dtype {variable.dtype}. Keep its real "
                "and imaginary parts in two variables, or freeze it with "
                "trainable=False."
            )
