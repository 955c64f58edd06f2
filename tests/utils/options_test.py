"""Options of classes made for the purpose."""

import dataclasses

import numpy as np
import pytest

from keras_l2l.utils.options import Options
from keras_l2l.utils.options import descriptions_of
from keras_l2l.utils.options import range_of
from keras_l2l.utils.options import without_none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base(Options):
    """A base.

    Args:
        first, second: Ints, of two
            lines.

    Raises:
        ValueError: never described.
    """

    first: int = 1
    second: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Derived(Base):
    """A class derived from it.

    Args:
        first, second: See `Base`.
        third: Base, in a range.
    """

    third: int = range_of(0, 3)
    fourth: Base = Base()


def test_descriptions_are_those_of_the_class_that_has_the_option():
    assert descriptions_of(Derived) == {
        "first": "Ints, of two lines.",
        "second": "Ints, of two lines.",
        "third": "Base, in a range.",
    }


def test_values_are_checked_by_their_types():
    made = Derived(second=np.int64(2), third=0)
    assert type(made.second) is int
    assert Derived.from_config(made.get_config()) == made
    for options, message in (
        ({"first": None}, "`first` must be an int from 1"),
        ({"second": 0}, "`second` must be an int from 1"),
        ({"third": 4}, "`third` must be an int from 0 to 3"),
        ({"fourth": 1}, r"`fourth` must be a \S*Base. .* \(of type int\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Derived(**{"third": 1, **options})


def test_types_without_none():
    assert without_none(int | None) == (int, True)
    assert without_none(float) == (float, False)
    kind, optional = without_none(int | str | None)
    assert kind == int | str and optional
