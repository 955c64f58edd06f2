"""Converts rules to JSON-able dicts, and back."""

import inspect
import typing

import keras

from keras_l2l.rules.base import UpdateRule


def serialize(rule: UpdateRule) -> dict[str, typing.Any]:
    """Returns `{"class_name": ..., "config": ...}` for a rule.

    Raises:
        ValueError: if the rule's class is not registered with Keras.
    """
    name = keras.saving.get_registered_name(type(rule))
    if keras.saving.get_registered_object(name) is not type(rule):
        raise ValueError(
            "A rule's class must be registered with Keras to be saved. "
            f"Received: {type(rule).__name__}. Decorate it with "
            "@keras.saving.register_keras_serializable(package=...)."
        )
    return {
        "class_name": name,
        "config": rule.get_config(),
    }


def deserialize(config: dict[str, typing.Any]) -> UpdateRule:
    """Rebuilds a rule from a dict as returned by `serialize`.

    Only classes that are registered with Keras are looked up, by name. Nothing
    is imported, and no code in `config` is run.

    Raises:
        ValueError: if `config` does not name a registered rule, or the rule
            does not accept the configuration.
    """
    try:
        name, arguments = config["class_name"], config["config"]
    except (TypeError, KeyError):
        raise ValueError(
            'A rule\'s configuration must be a dict with "class_name" and '
            f'"config". Received: {config!r}'
        ) from None
    cls = keras.saving.get_registered_object(str(name))
    if not (isinstance(cls, type) and issubclass(cls, UpdateRule)):
        known = sorted(
            registered
            for registered, value in keras.saving.get_custom_objects().items()
            if isinstance(value, type) and issubclass(value, UpdateRule)
        )
        raise ValueError(
            "The rule's class must be registered with Keras. Received: "
            f"class_name={name!r}. Registered rules: {', '.join(known)}. For "
            "a rule of your own, import its module first; its class needs "
            "@keras.saving.register_keras_serializable(package=...)."
        )
    try:
        return cls.from_config(arguments)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{name} does not accept the configuration {arguments!r}: {error}"
        ) from error


def configured(rule, arguments, owner):
    """Returns a rule with its own arguments set, and the other arguments.

    Args:
        rule: `UpdateRule`.
        arguments: Dict from names to values.
        owner: Class whose own arguments are left to it.
    """
    theirs = inspect.signature(owner).parameters
    config = rule.get_config()
    own = {
        name: value
        for name, value in arguments.items()
        if name in config and name not in theirs
    }
    if own:
        rule = type(rule).from_config({**config, **own})
    return rule, {n: v for n, v in arguments.items() if n not in own}
