"""Saved optimizer variables come back exactly, or with an error."""

import hashlib
import itertools
import warnings

import keras
import numpy as np
from keras import ops

from keras_l2l.optimizer import state_parts

# Variables of a LossScaleOptimizer: iterations, learning rate, steps, scale.
_WRAPPER = 4


class SavedVariables:
    """Saves and loads the variables of an optimizer, and skips none silently.

    Keras warns and loads nothing where the number of variables differs, which
    it does whenever an optimizer is loaded before it is built. Here the values
    of variables to come are kept until they are made; a real difference
    raises.

    The state is saved as if it were in one part, and loaded in any parts.

    Args:
        optimizer: `keras.optimizers.Optimizer`. Its `save_state` tells whether
            what `build` made is saved.

    Attributes:
        saved_for: String, `digest` of the optimizer that is loaded; `None` if
            it is not known, as where weights alone are loaded.
    """

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self._loaded = ()
        # The layout of the state, the variables of it in each part, and the
        # index of the first.
        self._division, self._number = state_parts.Whole([]), 0
        self._first, self._newer = None, []
        self._unbuilt_count = None
        self.saved_for = None

    def start_build(self):
        """Notes the variables that are there before `build` makes others."""
        self._unbuilt_count = len(self._optimizer.variables)

    def digest(self):
        """Returns a string that tells the shapes of what is updated."""
        shapes = [tuple(v.shape) for v in self._optimizer._trainable_variables]
        return hashlib.sha256(repr(shapes).encode()).hexdigest()

    def set_layout(self, divided, number, newer):
        """Sets the layout of the state, before its variables are made.

        Args:
            divided: What `Execution.divide` returns.
            number: Int, variables of each part.
            newer: List of arrays, of the variables made after them: the values
                that go with files of earlier versions, which lack them.
        """
        self._division, self._number, self._newer = divided, number, newer
        self._first = len(self._optimizer.variables)
        if self._loaded:
            self._loaded = tuple(self._complete(self._loaded))

    def _complete(self, saved):
        """Returns saved values in this layout, with those of newer variables.

        Args:
            saved: List of the arrays of the state and of newer variables, as
                any version has saved them.
        """
        for later in (saved[max(0, len(saved) - len(self._newer)) :], ()):
            state = saved[: len(saved) - len(later)]
            state = self._division.split_state(list(state), self._number)
            if len(state) == self._state_count:
                return [*state, *(later or self._newer)]
        return saved

    @property
    def _state_count(self):
        return self._number * len(self._division.shapes)

    def initializer(self, shape, name, dtype, default):
        """Returns the initializer of the next variable.

        It is the value that was loaded for it before `build`, if there is one.

        Args:
            shape, name, dtype: Of the variable.
            default: Initializer where nothing was loaded.
        """
        if not self._loaded:
            return default
        value, *rest = self._loaded
        self._loaded = tuple(rest)
        _check([value], [(name, shape, dtype)])
        return lambda shape, dtype: ops.convert_to_tensor(value, dtype)

    def end_build(self):
        """Raises if values were loaded for variables that are not there."""
        _check(self._loaded, [])

    def save(self, store):
        optimizer = self._optimizer
        values = self.joined()
        if optimizer.built and not optimizer.save_state:
            values = optimizer.variables[: self._unbuilt_count]
        for i, value in enumerate(values):
            store[str(i)] = ops.convert_to_numpy(value)

    def joined(self):
        """Yields the values to save: those of all variables, in one part."""
        variables = self._optimizer.own_variables()
        if self._first is None:
            yield from variables
            return
        after = self._first + self._state_count
        yield from variables[: self._first]
        yield from self._division.join_state(variables[self._first : after])
        yield from variables[after:]

    def in_parts(self, values):
        """Returns values of all variables, from a list as `joined` yields."""
        return [*values[: self._first], *self._complete(values[self._first :])]

    def load(self, store):
        """Restores the variables, or raises where they are not as saved.

        What another optimizer has saved is skipped with a warning, as by
        Keras' optimizers: the weights of its model may be all that is wanted.
        Another is one whose first variables, up to the meta-parameters, have
        other shapes; or, in a saved model, one of other trainable variables,
        as where layers have been frozen since the last step.

        Args:
            store: Dict of arrays, not empty.

        Raises:
            ValueError: if number or shapes of the others differ, or integers
                stand where floats should.
        """
        optimizer = self._optimizer
        variables, later = optimizer.own_variables(), ()
        first = variables
        if optimizer.built:
            first = variables[: self._unbuilt_count]
        values = _own_values(store, first)
        if values is None:
            self._warn()
            return
        if not optimizer.built:
            values, later = values[: len(variables)], values[len(variables) :]
        elif len(values) == self._unbuilt_count:
            # Saved before `build`, or without its state.
            variables = variables[: len(values)]
        else:
            values = self.in_parts(values)
        if not self.are_for(values, variables):
            return
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._loaded = tuple(later)

    def are_for(self, values, variables):
        """Returns whether saved values are those of these variables.

        If they are not, because the saved model had other trainable variables,
        it warns; otherwise it raises ValueError.
        """
        try:
            _check(values, [(v.path, v.shape, v.dtype) for v in variables])
        except ValueError:
            if self.saved_for in (None, self.digest()):
                raise
            self._warn()
            return False
        return True

    def _warn(self):
        warnings.warn(
            "Skipping variable loading for optimizer "
            f"'{self._optimizer.name}': the saved one is another, or of other "
            "variables. The weights of the model are loaded, and this "
            "optimizer starts afresh.",
            stacklevel=4,
        )


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
