"""Checks of arguments, with the messages that go with them."""

import sys


def require_int(name, value, minimum=1, maximum=2**31 - 1):
    """Raises unless a value is an int from `minimum` to `maximum`.

    Args:
        name: String, the argument's name.
        value: What was received.
        minimum: Int. Defaults to 1.
        maximum: Int. Defaults to the largest that 32 bits hold.

    Raises:
        ValueError: otherwise; bools and floats are no ints.
    """
    if type(value) is not int or not minimum <= value <= maximum:
        raise ValueError(
            f"`{name}` must be an int from {minimum} to {maximum}. Received: "
            f"{name}={value!r}"
        )


def require_positive(name, value):
    """Raises unless a value is a finite number above 0.

    Args:
        name: String, the argument's name.
        value: What was received.

    Raises:
        ValueError: otherwise.
    """
    is_number = isinstance(value, (int, float)) and value is not True
    # An int may be too large for a float.
    if not is_number or not 0 < value < sys.float_info.max:
        raise ValueError(
            f"`{name}` must be a positive finite number. Received: "
            f"{name}={value!r}"
        )


def require_bool(name, value):
    """Raises ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be a bool. Received: {name}={value!r}")
