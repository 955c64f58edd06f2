"""`Partition`: several rules in one model, each for some of the variables."""

import copy
import os
import re
import typing
from collections.abc import Callable
from collections.abc import Sequence

import keras

from keras_l2l.rules import base
from keras_l2l.rules import serialization
from keras_l2l.rules import wrapper
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class Partition(wrapper.WrapperRule):
    """Updates each variable by the first rule whose selector matches it.

    Args:
        members: List of pairs `(selector, rule)`. A selector is a regular
            expression that is searched for in the variable's path (such as
            `"sequential/conv2d/kernel"`), or a function from a variable to a
            bool. To be saved, a function must be registered with
            `keras.saving.register_keras_serializable`. For `LearnedOptimizer`,
            the rule may be a preset, its name or its folder.
        default: The same for the variables that no selector matches.

    Raises:
        ValueError: if a member is not such a pair.

    Example:
    >>> rule = keras_l2l.rules.Partition(
    ...     [("embedding", keras_l2l.rules.Adam())], default="l2l_networks"
    ... )
    >>> optimizer = keras_l2l.LearnedOptimizer(rule=rule)

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.3: one LSTM
        for convolutional and one for dense parameters.
    """

    def __init__(
        self,
        members: Sequence[
            tuple[str | Callable[[typing.Any], bool], typing.Any]
        ],
        default: typing.Any,
    ) -> None:
        if not isinstance(members, (tuple, list)):
            raise ValueError(
                "`members` must be a list of pairs (selector, rule). "
                f"Received: members={members!r}"
            )
        for member in [*members, ("", default)]:
            if (
                not isinstance(member, (tuple, list))
                or len(member) != 2
                or not (isinstance(member[0], str) or callable(member[0]))
                or not _is_rule_or_preset(member[1])
            ):
                raise ValueError(
                    "`members` must be pairs (selector, rule) of a regular "
                    "expression or a function, and a keras_l2l.UpdateRule or "
                    "a preset; `default` must be such a rule. Received: "
                    f"{member!r}"
                )
            if isinstance(member[0], str):
                _require_regular_expression(member[0])
        self.members = [tuple(member) for member in members]
        self.default = default
        self._indices = None

    def given_rules(self):
        rules = {f"member_{i}": r for i, (_, r) in enumerate(self.members)}
        return {**rules, "default": self.default}

    def inner_rules(self):
        """Returns the rules by name, in the order of selection."""
        rules = self.given_rules()
        for rule in rules.values():
            if not isinstance(rule, base.UpdateRule):
                raise ValueError(
                    "The rules of a Partition must be instances of "
                    "keras_l2l.UpdateRule, except in LearnedOptimizer(rule="
                    f"...). Received: {checks.shown(rule)}. Pass "
                    "keras_l2l.presets.load_preset(...).rule, and its "
                    "meta_params where they are asked for."
                )
        return rules

    def with_inner_rules(self, rules):
        found = copy.copy(self)
        *members, found.default = rules.values()
        selectors = [selector for selector, _ in self.members]
        found.members = list(zip(selectors, members, strict=True))
        return found

    def for_variables(self, variables):
        selectors = [*(s for s, _ in self.members), lambda variable: True]
        chosen = [
            next(i for i, s in enumerate(selectors) if _selects(s, variable))
            for variable in variables
        ]
        indices = {
            name: [i for i, c in enumerate(chosen) if c == number]
            for number, name in enumerate(self.inner_rules())
        }
        bound = self.with_inner_rules(
            {
                name: rule.for_variables([variables[i] for i in indices[name]])
                for name, rule in self.inner_rules().items()
            }
        )
        bound._indices = indices
        return bound

    def bound_members(self) -> list[tuple[str, base.UpdateRule, list[int]]]:
        """Returns a list of `(name, rule, indices)`, of members in use.

        `indices` are those of the member's variables.

        Raises:
            ValueError: if `for_variables` has not been called.
        """
        if self._indices is None:
            raise ValueError(
                "A Partition must know the variables before it is used. Call "
                "rule.for_variables(variables) and use what it returns."
            )
        return [
            (name, rule, self._indices[name])
            for name, rule in self.inner_rules().items()
            if self._indices[name]
        ]

    def init_state(self, shapes):
        return {
            name: rule.init_state([shapes[i] for i in indices])
            for name, rule, indices in self.bound_members()
        }

    def take(self, state, shapes, coordinates):
        return {
            name: rule.take(
                state[name],
                [shapes[i] for i in indices],
                [coordinates[i] for i in indices],
            )
            for name, rule, indices in self.bound_members()
        }

    def step(self, meta_params, inputs, state):
        return self.step_members(
            lambda rule: rule.step, meta_params, inputs, state
        )

    def step_members(
        self,
        step_of: Callable[
            [base.UpdateRule],
            Callable[..., tuple[list[typing.Any], typing.Any]],
        ],
        meta_params: typing.Any,
        inputs: base.StepInputs,
        state: typing.Any,
    ) -> tuple[list[typing.Any], dict[str, typing.Any]]:
        """Computes `step`, with another step of each member.

        Args:
            step_of: Function from a rule to the function to use as its `step`.
            meta_params, inputs, state: As for `step`.
        """
        updates, new_state = [None] * len(inputs.gradients), {}
        for name, rule, indices in self.bound_members():
            member_updates, new_state[name] = step_of(rule)(
                meta_params[name], _choose(inputs, indices), state[name]
            )
            for i, update in zip(indices, member_updates, strict=True):
                updates[i] = update
        return updates, new_state

    def replacements(self, state):
        members = self.bound_members()
        found = {
            i: replacement
            for name, rule, indices in members
            for i, replacement in zip(
                indices, rule.replacements(state[name]) or [], strict=False
            )
        }
        number = sum(len(indices) for _, _, indices in members)
        return [found.get(i) for i in range(number)] if found else None

    def remarks(self, state, steps):
        return [
            f"{name}: {remark}"
            for name, rule, _ in self.bound_members()
            for remark in rule.remarks(state[name], steps)
        ]

    @property
    def unused(self):
        bound = {name for name, _, _ in self.bound_members()}
        return [
            name
            for name, rule in self.inner_rules().items()
            if name not in bound and rule.init_meta_params(0)
        ]

    def get_config(self):
        return {
            "members": [
                [_serialize_selector(selector), serialization.serialize(rule)]
                for selector, rule in self.members
            ],
            "default": serialization.serialize(self.default),
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            [
                (
                    _deserialize_selector(selector),
                    serialization.deserialize(rule),
                )
                for selector, rule in config["members"]
            ],
            serialization.deserialize(config["default"]),
        )


def _is_rule_or_preset(rule):
    # `presets.resolve`, which knows presets, makes rules of them.
    of_preset = getattr(rule, "rule", rule)
    return isinstance(of_preset, (base.UpdateRule, str, os.PathLike))


def _require_regular_expression(selector):
    try:
        re.compile(selector)
    except re.error as error:
        raise ValueError(
            "A string that selects variables must be a regular expression. "
            f"Received: {selector!r}: {error}"
        ) from None


def _selects(selector, variable):
    if callable(selector):
        return selector(variable)
    # Raw tf.Variables have only a name.
    path = getattr(variable, "path", variable.name)
    return re.search(selector, path) is not None


def _choose(inputs, indices):
    """Returns the inputs of some of the tensors."""

    def choose(values):
        return None if values is None else [values[i] for i in indices]

    return inputs._replace(
        gradients=choose(inputs.gradients),
        params=choose(inputs.params),
        mask=choose(inputs.mask),
        model_size=inputs.size(),
    )


def _serialize_selector(selector):
    if isinstance(selector, str):
        return selector
    name = keras.saving.get_registered_name(selector)
    if keras.saving.get_registered_object(name) is not selector:
        raise ValueError(
            "A function that selects variables must be registered with Keras "
            f"to be saved. Received: {selector!r}. Decorate it with "
            "@keras.saving.register_keras_serializable(package=...), or use a "
            "regular expression."
        )
    return {"registered_name": name}


def _deserialize_selector(config):
    if isinstance(config, str):
        return config
    name = config["registered_name"]
    selector = keras.saving.get_registered_object(name)
    if selector is None:
        raise ValueError(
            f"The function {name!r} that selects variables must be registered "
            "with Keras. Import the module that defines it first."
        )
    return selector
