"""Saved optimizer variables come back exactly, or with an error."""

import itertools
import warnings

import keras
import numpy as np
from keras import ops

from keras_l2l.optimizer import state_parts

# Variables of a LossScaleOptimizer: iterations, learning rate, steps, scale.
_WRAPPER = 4


class RestorableOptimizer(keras.optimizers.Optimizer):
    """An optimizer that never skips saved variables silently.

    Keras warns and loads nothing where the number of variables differs, which
    it does whenever an optimizer is loaded before it is built. Here the values
    of variables to come are kept until they are made; a real difference
    raises.

    The state is saved as if it were in one part, and loaded in any parts.

    Attributes:
        save_state: Bool, whether what `build` made is saved.
    """

    save_state = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._loaded = ()
        # The variables of the state, their layout, and the index of the first.
        self._state, self._number = [], 0
        self._division = state_parts.Whole([])
        self._first, self._newer = None, []

    def build(self, variables):
        self._unbuilt_count = len(self.variables)
        super().build(variables)

    def divide_state(self, divided, number, newer):
        """Sets the layout of the state, before its variables are made.

        Args:
            divided: What `UpdateRule.divide` returns.
            number: Int, variables of each part.
            newer: List of arrays, of the variables made after them: the values
                that go with files of earlier versions, which lack them.
        """
        self._division, self._number, self._newer = divided, number, newer
        self._first = len(self.variables)
        if self._loaded:
            self._loaded = tuple(
                self._complete(self._loaded, number * len(divided.shapes))
            )

    def _complete(self, saved, number):
        """Returns saved values in this layout, with those of newer variables.

        Args:
            saved: List of the arrays of the state and of newer variables, as
                any version has saved them.
            number: Int, variables of the state.
        """
        for later in (saved[max(0, len(saved) - len(self._newer)) :], ()):
            state = saved[: len(saved) - len(later)]
            state = self._division.split_state(list(state), self._number)
            if len(state) == number:
                return [*state, *(later or self._newer)]
        return saved

    def add_variable(self, shape, initializer="zeros", **kwargs):
        # What was loaded before `build` waits for its variable to be made.
        if self._loaded:
            value, *rest = self._loaded
            self._loaded = tuple(rest)
            expected = (kwargs.get("name"), shape, kwargs.get("dtype"))
            _check([value], [expected])

            def initializer(shape, dtype):
                return ops.convert_to_tensor(value, dtype)

        return super().add_variable(shape, initializer, **kwargs)

    def check_restored(self):
        """Raises if values were loaded for variables that are not there."""
        _check(self._loaded, [])

    def save_own_variables(self, store):
        if self.save_state or not self.built:
            values = self.joined()
        else:
            values = self.variables[: self._unbuilt_count]
        for i, value in enumerate(values):
            store[str(i)] = ops.convert_to_numpy(value)

    def joined(self):
        """Yields the values to save: those of all variables, in one part."""
        if self._first is None:
            yield from self.variables
            return
        yield from self.variables[: self._first]
        yield from self._division.join_state(self._state)
        yield from self.variables[self._first + len(self._state) :]

    def in_parts(self, values):
        """Returns values of all variables, of a list of such as are saved."""
        first = self._first
        return [
            *values[:first],
            *self._complete(values[first:], len(self._state)),
        ]

    def load_own_variables(self, store):
        """Restores the variables, or raises where they are not as saved.

        What another optimizer has saved is skipped with a warning, as by
        Keras' optimizers: the weights of its model may be all that is wanted.
        Another is one whose first variables, up to the meta-parameters, have
        other shapes.

        Raises:
            ValueError: if number or shapes of the others differ, or integers
                stand where floats should.
        """
        if not store.keys():
            # Saved without an optimizer, or under another dtype policy, where
            # it stood in no LossScaleOptimizer: nothing to compare with. This
            # warns.
            super().load_own_variables(store)
            return
        variables, later = self.variables, ()
        first = variables[: self._unbuilt_count] if self.built else variables
        values = _own_values(store, first)
        if values is None:
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}': the "
                "saved one is another, of other variables. The weights of the "
                "model are loaded, and this optimizer starts afresh.",
                stacklevel=2,
            )
            return
        if not self.built:
            values, later = values[: len(variables)], values[len(variables) :]
        elif len(values) == self._unbuilt_count:
            # Saved before `build`, or without its state.
            variables = variables[: len(values)]
        else:
            values = self.in_parts(values)
        _check(values, [(v.path, v.shape, v.dtype) for v in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._loaded = tuple(later)


def _own_values(store, first):
    """Returns the list of saved arrays; `None` if they are of another kind.

    Args:
        store: Dict of arrays by `"0"`, `"1"` and so on.
        first: List of variables, with which those that were saved begin.
    """
    keys = [str(i) for i in range(len(store.keys()))]
    if set(keys) != set(store.keys()):
        return None
    values = [np.asarray(store[key]) for key in keys]
    expected = [_kind(v.shape, v.dtype) for v in first]
    # Saved under a float16 policy, in Keras' LossScaleOptimizer, which puts
    # its own variables in front.
    for own in (values, values[_WRAPPER:]):
        if [_kind(v.shape, v.dtype) for v in own[: len(first)]] == expected:
            return own
    return None


def _check(values, variables):
    """Raises, naming both sides, if saved values are not of these variables.

    Args:
        values: List of arrays.
        variables: List of `(name, shape, dtype)` of the variables.
    """
    expected = [(name, _kind(shape, dtype)) for name, shape, dtype in variables]
    received = _kinds(values)
    if received != [kind for _, kind in expected]:
        pairs = itertools.zip_longest(
            expected, received, fillvalue=("one more", "none")
        )
        differences = [
            f"{name}: expected {e}, received {r}"
            for (name, e), r in pairs
            if e != r
        ]
        raise ValueError(
            "The saved state must have the shapes of this optimizer's. "
            "Received: others, the first of which are "
            f"{'; '.join(differences[:2])}. Load it into an optimizer of the "
            "same arguments, for the same model; or call load_weights before "
            "compile, for the model's weights alone."
        )


def _kinds(values):
    return [_kind(value.shape, value.dtype) for value in values]


def _kind(shape, dtype):
    # Backends differ in how many bits they give to integers and floats. But
    # the bits of a bfloat16 are integers, and no numbers.
    integers = "int" in keras.backend.standardize_dtype(dtype)
    return f"{tuple(shape)}{' of integers' if integers else ''}"


def _restore_inner_optimizer(optimizer_class):
    """Lets `LossScaleOptimizer` save the optimizer in it as that one does."""
    save, load = (
        optimizer_class.save_own_variables,
        optimizer_class.load_own_variables,
    )

    def save_joined(self, store):
        inner = self.inner_optimizer
        if not isinstance(inner, RestorableOptimizer):
            return save(self, store)
        for i, value in enumerate([*self._variables, *inner.joined()]):
            store[str(i)] = ops.convert_to_numpy(value)

    def load_in_parts(self, store):
        inner = self.inner_optimizer
        if isinstance(inner, RestorableOptimizer) and inner.built:
            number = len(self._variables)
            values = [store[str(i)] for i in range(len(store.keys()))]
            values = [*values[:number], *inner.in_parts(values[number:])]
            store = {str(i): value for i, value in enumerate(values)}
        return load(self, store)

    optimizer_class.save_own_variables = save_joined
    optimizer_class.load_own_variables = load_in_parts


_restore_inner_optimizer(keras.optimizers.LossScaleOptimizer)
