"""Saved optimizer variables come back exactly, or with an error."""

import itertools

import keras
import numpy as np
from keras import ops

# Variables of a LossScaleOptimizer: iterations, learning rate, steps, scale.
_WRAPPER = 4


class RestorableOptimizer(keras.optimizers.Optimizer):
    """An optimizer that never skips saved variables silently.

    Keras warns and loads nothing where the number of variables differs, which
    it does whenever an optimizer is loaded before it is built. Here the values
    of variables to come are kept until they are made; a real difference
    raises.

    Attributes:
        save_state: Bool, whether what `build` made is saved.
    """

    save_state = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._loaded = ()

    def build(self, variables):
        self._unbuilt_count = len(self.variables)
        super().build(variables)

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
        super().save_own_variables(store)
        if self.built and not self.save_state:
            for i in range(self._unbuilt_count, len(self.variables)):
                del store[str(i)]

    def load_own_variables(self, store):
        """Restores the variables, or raises where Keras would only warn.

        Raises:
            ValueError: if number or shapes differ, or integers stand where
                floats should.
        """
        if not store.keys():
            # Saved without an optimizer, or under another dtype policy, where
            # it stood in no LossScaleOptimizer: nothing to compare with. This
            # warns.
            super().load_own_variables(store)
            return
        values = [np.asarray(store[str(i)]) for i in range(len(store.keys()))]
        variables, later = self.variables, ()
        if self.built and len(values) == _WRAPPER + len(variables):
            # Saved under a float16 policy, in Keras' LossScaleOptimizer, which
            # puts its own variables in front.
            values = values[_WRAPPER:]
        if not self.built:
            values, later = values[: len(variables)], values[len(variables) :]
        elif len(values) == self._unbuilt_count:
            # Saved before `build`, or without its state.
            variables = variables[: len(values)]
        _check(values, [(v.path, v.shape, v.dtype) for v in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._loaded = tuple(later)


def _check(values, variables):
    """Raises, naming both sides, if saved values are not of these variables.

    Args:
        values: List of arrays.
        variables: List of `(name, shape, dtype)` of the variables.
    """
    expected = [(name, _kind(shape, dtype)) for name, shape, dtype in variables]
    received = [_kind(value.shape, value.dtype) for value in values]
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
            f"The saved optimizer must have the {len(expected)} variables of "
            f"this one, in shape. Received: {len(received)}. "
            f"{'; '.join(differences[:4])}. Load it into an optimizer of the "
            "same rule and arguments, for the same model."
        )


def _kind(shape, dtype):
    # Backends differ in how many bits they give to integers and floats. But
    # the bits of a bfloat16 are integers, and no numbers.
    integers = "int" in keras.backend.standardize_dtype(dtype)
    return f"{tuple(shape)}{' of integers' if integers else ''}"
