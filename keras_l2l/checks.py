"""Checks of arguments, with the messages that go with them."""


def require_int(name, value, minimum=1):
    """Raises unless a value is an int of at least `minimum`.

    Args:
        name: String, the argument's name.
        value: What was received.
        minimum: Int. Defaults to 1.

    Raises:
        ValueError: otherwise; bools and floats are no ints.
    """
    if type(value) is not int or value < minimum:
        raise ValueError(
            f"`{name}` must be an int of at least {minimum}. Received: "
            f"{name}={value!r}"
        )


def require_positive(name, value):
    """Raises unless a value is a number above 0.

    Args:
        name: String, the argument's name.
        value: What was received.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(
            f"`{name}` must be a positive number. Received: {name}={value!r}"
        )
