"""Saved optimizer variables come back exactly, or with an error."""

import itertools

import keras
import numpy as np
from keras import ops


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
            _check_shapes([value.shape], [tuple(shape)])

            def initializer(shape, dtype):
                return ops.convert_to_tensor(value, dtype)

        return super().add_variable(shape, initializer, **kwargs)

    def check_restored(self):
        """Raises if values were loaded for variables that are not there."""
        _check_shapes([v.shape for v in self._loaded], [])

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.built and not self.save_state:
            for i in range(self._unbuilt_count, len(self.variables)):
                del store[str(i)]

    def load_own_variables(self, store):
        """Restores the variables, or raises where Keras would only warn.

        Raises:
            ValueError: if number or shapes differ.
        """
        values = [np.asarray(store[str(i)]) for i in range(len(store.keys()))]
        variables, later = self.variables, ()
        if not self.built:
            values, later = values[: len(variables)], values[len(variables) :]
        elif len(values) == self._unbuilt_count:
            # Saved before `build`, or without its state.
            variables = variables[: len(values)]
        _check_shapes(
            [v.shape for v in values], [tuple(v.shape) for v in variables]
        )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._loaded = tuple(later)


def _check_shapes(received, expected):
    """Raises, naming both sides, if saved variables are not these."""
    if received != expected:
        pairs = itertools.zip_longest(expected, received, fillvalue="none")
        differences = "; ".join(
            f"variable {i}: expected {e}, received {r}"
            for i, (e, r) in enumerate(pairs)
            if e != r
        )
        raise ValueError(
            f"The saved optimizer must have the {len(expected)} variables of "
            f"this one, in shape. Received: {len(received)}. {differences}. "
            "Load it into an optimizer of the same rule and arguments, for "
            "the same model."
        )
