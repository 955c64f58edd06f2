"""Several rules in one model: which rule updates which variable."""

import re

import keras

from keras_l2l.rules import base
from keras_l2l.rules import serialization


@keras.saving.register_keras_serializable(package="keras_l2l")
class Partition(base.UpdateRule):
    """Updates each variable by the first rule whose selector chooses it.

    Args:
        members: List of pairs `(selector, rule)`. A selector is a regular
            expression, searched for in the variable's path (such as
            `"sequential/conv2d/kernel"`), or a function from a variable to a
            bool, which must be registered with
            `keras.saving.register_keras_serializable` to be saved.
        default: `UpdateRule` for the variables that no selector chooses.

    Raises:
        ValueError: if a member is not such a pair, or a rule is no rule.

    Example:
    >>> rule = keras_l2l.rules.Partition(
    ...     [("embedding", keras_l2l.rules.Adam())],
    ...     default=keras_l2l.CoordinatewiseLSTM(),
    ... )
    >>> optimizer = keras_l2l.LearnedOptimizer(rule=rule)

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.3: one LSTM
        for convolutional and one for dense parameters.
    """

    def __init__(self, members, default):
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
                or not isinstance(member[1], base.UpdateRule)
            ):
                raise ValueError(
                    "`members` must be pairs (selector, rule) of a regular "
                    "expression or a function, and a keras_l2l.UpdateRule; "
                    f"`default` must be such a rule. Received: {member!r}"
                )
            if isinstance(member[0], str):
                _require_regular_expression(member[0])
        self.members = [tuple(member) for member in members]
        self.default = default
        self._indices = None

    @property
    def uses_params(self):
        return any(rule.uses_params for rule in self._rules().values())

    @property
    def uses_loss(self):
        return any(rule.uses_loss for rule in self._rules().values())

    @property
    def needs_loss(self):
        return any(rule.needs_loss for rule in self._rules().values())

    @property
    def jit_compile(self):
        return all(rule.jit_compile for rule in self._rules().values())

    @property
    def rests_without_gradient(self):
        return all(
            rule.rests_without_gradient for rule in self._rules().values()
        )

    @property
    def rounds_state(self):
        return all(rule.rounds_state for rule in self._rules().values())

    def _rules(self):
        """Returns the rules by name, in the order of selection."""
        names = [f"member_{i}" for i in range(len(self.members))]
        chosen = [rule for _, rule in self.members]
        return dict(
            zip([*names, "default"], [*chosen, self.default], strict=True)
        )

    def for_variables(self, variables):
        bound = type(self)(self.members, self.default)
        selectors = [*(s for s, _ in self.members), lambda variable: True]
        chosen = [
            next(i for i, s in enumerate(selectors) if _selects(s, variable))
            for variable in variables
        ]
        bound._indices = {
            name: [i for i, c in enumerate(chosen) if c == number]
            for number, name in enumerate(self._rules())
        }
        return bound

    def for_num_steps(self, num_steps):
        members = [
            (s, rule.for_num_steps(num_steps)) for s, rule in self.members
        ]
        told = type(self)(members, self.default.for_num_steps(num_steps))
        told._indices = self._indices
        return told

    def init_meta_params(self, seed):
        return {
            name: rule.init_meta_params(seed)
            for name, rule in self._rules().items()
        }

    def init_state(self, shapes):
        return self._of_members("init_state", shapes)

    def state_spec(self, shapes):
        return self._of_members("state_spec", shapes)

    def _of_members(self, method, shapes):
        return {
            name: getattr(self._rules()[name], method)(
                [shapes[i] for i in indices]
            )
            for name, indices in self._bound().items()
        }

    def take(self, state, shapes, coordinates):
        return {
            name: self._rules()[name].take(
                state[name],
                [shapes[i] for i in indices],
                [coordinates[i] for i in indices],
            )
            for name, indices in self._bound().items()
        }

    def step(self, meta_params, inputs, state):
        return self._step("step", meta_params, inputs, state)

    def step_in_place(self, meta_params, inputs, stored, storage):
        return self._step("step_in_place", meta_params, inputs, stored, storage)

    def _step(self, method, meta_params, inputs, state, *args):
        updates, new_state = [None] * len(inputs.gradients), {}
        for name, indices in self._bound().items():
            step = getattr(self._rules()[name], method)
            member_updates, new_state[name] = step(
                meta_params[name], _choose(inputs, indices), state[name], *args
            )
            for i, update in zip(indices, member_updates, strict=True):
                updates[i] = update
        return updates, new_state

    def replacements(self, state):
        found = {
            i: replacement
            for name, indices in self._bound().items()
            for i, replacement in zip(
                indices,
                self._rules()[name].replacements(state[name]) or [],
                strict=False,
            )
        }
        n = sum(map(len, self._bound().values()))
        return [found.get(i) for i in range(n)] if found else None

    def remarks(self, state):
        return [
            f"{name}: {remark}"
            for name in self._bound()
            for remark in self._rules()[name].remarks(state[name])
        ]

    @property
    def unused(self):
        bound = self._bound()
        return [
            name
            for name, rule in self._rules().items()
            if name not in bound and rule.init_meta_params(0)
        ]

    def _bound(self):
        """Returns member names -> indices, of members with variables."""
        if self._indices is None:
            raise ValueError(
                "A Partition must know the variables before it is used. Call "
                "rule.for_variables(variables) and use what it returns."
            )
        return {name: i for name, i in self._indices.items() if i}

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
    # Raw tf.Variables have a name only.
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
