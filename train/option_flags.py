"""Flags for the options of `meta_train`, derived from their definitions."""

import dataclasses
import inspect
import typing

from absl import flags

import keras_l2l
from keras_l2l.estimators import ESTIMATORS
from keras_l2l.estimators import GradientEstimator
from keras_l2l.meta_training.options import RunOptions
from keras_l2l.rules import UpdateRule
from keras_l2l.tasks import Task
from keras_l2l.utils.options import Options
from keras_l2l.utils.options import descriptions_of
from keras_l2l.utils.options import without_none
from train import cli
from train import registry

# What the flags of a group start with.
_PREFIXES = {"validation": "validation_", "meta_optimizer": "meta_"}


def define_flags():
    """Defines a flag for each option, and two for a rule."""
    parameters = inspect.signature(keras_l2l.meta_train).parameters
    texts = descriptions_of(keras_l2l.meta_train)
    for field in dataclasses.fields(RunOptions):
        kind, _ = without_none(field.type)
        default = parameters[field.name].default
        if kind is GradientEstimator:
            flags.DEFINE_enum(
                field.name, default.name, [*ESTIMATORS], texts[field.name]
            )
            for cls in ESTIMATORS.values():
                _define_group(cls)
        elif issubclass(kind, Options):
            _define_group(kind, _PREFIXES.get(field.name, ""))
        else:
            _define(field.name, field.type, default, texts[field.name])


def arguments(values):
    """Returns the arguments of `meta_train` that flags are."""
    found = {}
    for field in dataclasses.fields(RunOptions):
        kind, _ = without_none(field.type)
        if kind is GradientEstimator:
            found[field.name] = estimator(values)
        elif issubclass(kind, Options):
            prefix = _PREFIXES.get(field.name, "")
            found[field.name] = _group(values, kind, prefix)
        else:
            found[field.name] = values[field.name].value
    return found


def estimator(values):
    """Returns the estimator that flags describe.

    Raises:
        ValueError: as its constructor does, and if the command line has a flag
            that it has no use for.
    """
    chosen = ESTIMATORS[values.estimator]
    own = _flags_of(chosen)
    for cls in ESTIMATORS.values():
        for name in _flags_of(cls):
            if values[name].present and name not in own:
                owners = [
                    other
                    for other, one in ESTIMATORS.items()
                    if name in _flags_of(one)
                ]
                raise ValueError(
                    f"--{name} must go with --estimator={' or '.join(owners)}."
                    f" Received: it with --estimator={values.estimator}."
                )
    return _group(values, chosen)


def _define_group(cls, prefix=""):
    texts = descriptions_of(cls)
    for field in dataclasses.fields(cls):
        # Estimators have some in common.
        if prefix + field.name not in flags.FLAGS:
            _define(
                prefix + field.name,
                field.type,
                field.default,
                texts[field.name],
            )


def _define(name, kind, default, text):
    kind, optional = without_none(kind)
    named = [k for k in (kind, *typing.get_args(kind)) if _is_literal(k)]
    if kind is bool:
        flags.DEFINE_bool(name, default, text)
    elif kind is UpdateRule:
        flags.DEFINE_enum(name, registry.TEACHERS[0], registry.TEACHERS, text)
        flags.DEFINE_float(
            _rate_of(name), 0.01, f"Float, learning rate of --{name}."
        )
    elif Task in typing.get_args(kind):
        flags.DEFINE_enum(name, default, sorted(registry.TASKS), text)
    elif named:
        flags.DEFINE_enum(name, default, typing.get_args(named[0]), text)
    else:
        parser = flags.IntegerParser() if kind is int else flags.FloatParser()
        if optional:
            parser = _OrNone(parser)
        flags.DEFINE(parser, name, default, text)


class _OrNone(flags.ArgumentParser):
    """Parses numbers, and `none` where an experiment has a number."""

    def __init__(self, parser):
        super().__init__()
        self._parser = parser
        self.syntactic_help = f"{parser.syntactic_help} or none"

    def parse(self, argument):
        return None if argument == "none" else self._parser.parse(argument)

    def flag_type(self):
        return self._parser.flag_type()


def _is_literal(kind):
    return typing.get_origin(kind) is typing.Literal


def _rate_of(name):
    return f"{name}_learning_rate"


def _flags_of(cls):
    """Returns the names of the flags of an estimator."""
    found = []
    for field in dataclasses.fields(cls):
        found.append(field.name)
        if field.type is UpdateRule:
            found.append(_rate_of(field.name))
    return found


def _group(values, cls, prefix=""):
    return cls(
        **{
            field.name: _value(values, prefix + field.name, field.type)
            for field in dataclasses.fields(cls)
        }
    )


def _value(values, name, kind):
    value = values[name].value
    kind, _ = without_none(kind)
    if kind is UpdateRule:
        return registry.RULES[value](learning_rate=values[_rate_of(name)].value)
    if Task in typing.get_args(kind):
        return value and cli.make_task(value)
    return value
