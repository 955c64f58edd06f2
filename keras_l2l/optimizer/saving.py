"""Saved optimizer variables come back exactly, or with an error."""

import hashlib
import itertools
import warnings

import keras
import numpy as np
from keras import ops

# Variables of a LossScaleOptimizer: iterations, learning rate, steps, scale.
_WRAPPER = 4
# Beside the numbers of the variables, in a file.
_DIGEST = "updated"


class SavedVariables:
    """Saves and loads the variables of an optimizer, and skips none silently.

    Keras warns and loads nothing where the number of variables differs, which
    it does whenever an optimizer is loaded before it is built. Here the values
    of variables to come are kept until they are made; a real difference
    raises.

    Args:
        optimizer: `keras.optimizers.Optimizer`. Its `save_state` tells whether
            what `build` made is saved.

    Attributes:
        saved_for: Bytes that tell which variables a loaded state was for, or
            `None` if it is not known. Earlier versions saved them in the
            optimizer's configuration.
    """

    def __init__(self, optimizer):
        self._optimizer = optimizer
        # Those of variables to come; `None` if nothing was loaded for them.
        self._loaded = None
        # The variables there were when they were loaded, and what they held.
        self._before = []
        # Initializers of what `build` makes, should it not be as loaded, and
        # what to say then.
        self._defaults = []
        self._misfit = None
        self._unbuilt_count = None
        self.saved_for = None

    def start_build(self, variables):
        """Notes the variables that are there before `build` makes others.

        Args:
            variables: List of variables, those to update.
        """
        self._unbuilt_count = len(self._optimizer.variables)
        if self._loaded is not None and not self._are_of(variables):
            self._forget()

    def initializer(self, shape, name, dtype, default):
        """Returns the initializer of the next variable.

        It is the value that was loaded for it before `build`, if there is one.

        Args:
            shape, name, dtype: Of the variable.
            default: Initializer where nothing was loaded.
        """
        if self._loaded is None:
            return default
        self._defaults.append(default)
        saved, self._loaded = self._loaded[:1], self._loaded[1:]
        self._misfit = self._misfit or _difference(
            saved, [(name, shape, dtype)]
        )
        if self._misfit:
            return default
        (value,) = saved
        return lambda shape, dtype: ops.convert_to_tensor(value, dtype)

    def end_build(self):
        """Raises if values were loaded for other variables than were made.

        The optimizer starts afresh then, if it is used all the same.
        """
        misfit = self._misfit or _difference(self._loaded or (), [])
        if misfit:
            made = self._optimizer.own_variables()[self._unbuilt_count :]
            for variable, default in zip(made, self._defaults, strict=True):
                default = keras.initializers.get(default)
                variable.assign(default(variable.shape, variable.dtype))
            self._forget()
        self._loaded, self._before = None, []
        self._defaults, self._misfit = [], None
        if misfit:
            raise ValueError(misfit)

    def save(self, store):
        optimizer = self._optimizer
        values = optimizer.own_variables()
        if optimizer.built and not optimizer.save_state:
            values = values[: self._unbuilt_count]
        elif optimizer.built:
            self.mark(store)
        for i, value in enumerate(values):
            store[str(i)] = ops.convert_to_numpy(value)

    def mark(self, store):
        """Writes what tells the updated variables of a state from others."""
        digest = _digest(self._optimizer._trainable_variables)
        store[_DIGEST] = np.frombuffer(digest, "uint8")

    def load(self, store):
        """Restores the variables, or raises where they are not as saved.

        What another optimizer has saved is skipped with a warning, as by
        Keras' optimizers: the weights of its model may be all that is wanted.
        Another is one whose first variables, up to the meta-parameters, have
        other shapes; or one that has updated variables of other shapes, as
        where layers have been frozen since. Before `build` it is known only
        then which are updated.

        Args:
            store: Dict of arrays, not empty.

        Raises:
            ValueError: if number or shapes of the others differ, or integers
                stand where floats should.
        """
        optimizer = self._optimizer
        variables, later = optimizer.own_variables(), None
        store = self.unmarked(store)
        values = _own_values(store, variables[: self._unbuilt_count])
        if values is None:
            self._warn()
            return
        if not optimizer.built:
            number = len(variables)
            # Nothing follows if it was saved before `build`, or without state.
            values, later = values[:number], values[number:] or None
            self._before = [(v, ops.convert_to_numpy(v)) for v in variables]
        elif len(values) == self._unbuilt_count:
            # Saved before `build`, or without its state.
            variables = variables[: len(values)]
        elif not self.are_for_these(values, variables):
            return
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._loaded = later

    def unmarked(self, store):
        """Returns the store without what `mark` wrote, which is noted."""
        store = {key: store[key] for key in store.keys()}
        if _DIGEST in store:
            self.saved_for = np.asarray(store.pop(_DIGEST)).tobytes()
        return store

    def are_for_these(self, values, variables):
        """Returns whether saved values are those of the updated variables.

        If they are not, it warns.

        Args:
            values: List of arrays.
            variables: List of the optimizer's variables.

        Raises:
            ValueError: if they are, but differ from the optimizer's variables.
        """
        if not self._are_of(self._optimizer._trainable_variables):
            return False
        difference = _difference(
            values, [(v.path, v.shape, v.dtype) for v in variables]
        )
        if difference:
            raise ValueError(difference)
        return True

    def _are_of(self, variables):
        if self.saved_for in (None, _digest(variables)):
            return True
        self._warn()
        return False

    def _forget(self):
        for variable, value in self._before:
            variable.assign(value)
        self._loaded = None

    def _warn(self):
        warnings.warn(
            "Skipping variable loading for optimizer "
            f"'{self._optimizer.name}': the saved one is another, or of other "
            "variables. The weights of the model are loaded, and this "
            "optimizer starts afresh.",
            stacklevel=4,
        )


def _digest(variables):
    shapes = [tuple(v.shape) for v in variables]
    return hashlib.sha256(repr(shapes).encode()).digest()


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


def _difference(values, variables):
    """Returns what to say if saved values are not of these variables.

    Args:
        values: List of arrays.
        variables: List of `(name, shape, dtype)` of the variables.
    """
    expected = [(name, _kind(shape, dtype)) for name, shape, dtype in variables]
    received = _kinds(values)
    if received == [kind for _, kind in expected]:
        return None
    received += ["none"] * (len(expected) - len(received))
    pairs = itertools.zip_longest(
        expected, received, fillvalue=("one more", "none")
    )
    differences = [
        f"{name}: expected {e}, received {r}"
        for (name, e), r in pairs
        if e != r
    ]
    return (
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
