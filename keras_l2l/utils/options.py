"""Groups of options, in which each option is written down once."""

import dataclasses
import inspect
import re
import types
import typing

from keras_l2l.utils import checks


class Options:
    """Base class of groups of options, which are frozen dataclasses.

    An option is one field. Its annotation is the type that values are checked
    against and that its flag has, its default is that of the flag, and its
    entry under `Args` in the docstring is the flag's help. An `int` is at
    least 1 and a `float` positive, unless `range_of` or a subclass says
    otherwise.

    Example:

    >>> import dataclasses
    >>> from keras_l2l.utils.options import Options
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Window(Options):
    ...     size: int = 3
    >>> Window().get_config()
    {'size': 3}
    >>> Window(size=0)
    Traceback (most recent call last):
    ValueError: `size` must be an int from 1 to 2147483647. Received: size=0
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            self._replace_field(field.name, value)

    def get_config(self) -> dict[str, typing.Any]:
        """Returns a JSON-able dict of the options."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: dict[str, typing.Any]) -> typing.Self:
        """Returns the options that `get_config` has described."""
        return cls(**config)

    def _replace_field(self, name, value):
        # While it is made, for plain values: JSON has no numbers of NumPy.
        object.__setattr__(self, name, value)


def range_of(minimum, maximum):
    """Returns a field without a default: an int in a range."""
    return dataclasses.field(metadata={"minimum": minimum, "maximum": maximum})


def without_none(kind):
    """Returns what a type is beside `None`, and whether it can be `None`."""
    kinds = typing.get_args(kind)
    if types.NoneType not in kinds:
        return kind, False
    others = tuple(k for k in kinds if k is not types.NoneType)
    return typing.Union[others], True  # noqa: UP007


def descriptions_of(documented):
    """Returns a dict from the arguments of a function or class to their text.

    Args:
        documented: Function, or class, with the arguments of its bases. Its
            docstring has a section `Args:`.
    """
    if not inspect.isclass(documented):
        return _arguments(documented)
    found = {}
    for cls in documented.__mro__:
        # The class that has an option first describes it.
        found |= _arguments(cls)
    return found


def _arguments(documented):
    text = inspect.cleandoc(documented.__doc__ or "")
    section = re.search(r"^Args:\n((?: .*\n?|\n)*)", text, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(
        r"^    (\w.*?):\s+(.*(?:\n {5,}.*)*)", section[1], re.MULTILINE
    )
    return {
        name: " ".join(words.split())
        for names, words in entries
        for name in names.split(", ")
    }


def _checked(field, value):
    """Returns the value of a field, or raises ValueError."""
    kind, optional = without_none(field.type)
    value = checks.plain(value)
    if optional and value is None:
        return value
    if kind is int:
        return checks.require_int(field.name, value, **field.metadata)
    if kind is float:
        return checks.require_positive(field.name, value)
    if kind is bool:
        return checks.require_bool(field.name, value)
    if isinstance(kind, type) and not isinstance(value, kind):
        package = kind.__module__.rpartition(".")[0]
        raise ValueError(
            f"`{field.name}` must be a {package}.{kind.__name__}. Received: "
            f"{field.name}={checks.shown(value)} (of type "
            f"{type(value).__name__}). Pass an instance."
        )
    return value
