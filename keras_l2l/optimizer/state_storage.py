"""The precision in which the state is stored between steps."""

import keras
from keras import ops

from keras_l2l.utils import backends
from keras_l2l.utils import nests

# Dtype -> dtype of the variable, bytes of a float.
_VARIABLES = {"float32": ("float32", 4), "bfloat16": ("int16", 2)}


class Storage:
    """Reads and writes a state in one precision.

    Args:
        dtype: `"float32"`, or `"bfloat16"`, which rounds to 8 bits.
        rounds: Bool, whether the state may be rounded.

    Attributes:
        bytes_per_float: Int, memory of one float of the state.
        variable_dtype: String, dtype of the variables that hold it. For
            bfloat16 it is int16: XLA on CPUs would convert a whole array of
            bfloat16 before it reads or writes a slice of it.

    Raises:
        ValueError: if `dtype` is something else, or would round.
    """

    def __init__(self, dtype, rounds=True):
        if dtype not in _VARIABLES:
            raise ValueError(
                f"`state_dtype` must be one of {', '.join(_VARIABLES)}. "
                f"Received: {dtype!r}"
            )
        if dtype != "float32" and not rounds:
            raise ValueError(
                '`state_dtype` must be "float32" for a rule in whose state '
                f"small changes add up. Received: {dtype!r}. If 8 bits are "
                "enough for the rule, set rounds_state = True in its class."
            )
        self.dtype = dtype
        self.variable_dtype, self.bytes_per_float = _VARIABLES[dtype]

    def read(self, stored):
        """Returns the stored state as a nest of float32 tensors."""
        if self.dtype == "float32":
            return stored
        return keras.tree.map_structure(
            lambda s: ops.cast(backends.bitcast(s, self.dtype), "float32"),
            stored,
        )

    def write(self, state):
        """Returns the state as a nest of tensors of `variable_dtype`."""
        if self.dtype == "float32":
            return state
        return keras.tree.map_structure(
            lambda s: backends.bitcast(
                ops.cast(s, self.dtype), self.variable_dtype
            ),
            state,
        )

    def initial(self, init_state, run):
        """Returns a function from a path in the state to what to store there.

        All are computed at once: one by one, those of a model of a hundred
        tensors take minutes.

        Args:
            init_state: Function without arguments that returns the state.
            run: Function that calls another one, compiled.
        """

        def write():
            return dict(nests.named_leaves(self.write(init_state())))

        def compute():
            # Compiled where the state is rounded: nothing is held in between.
            return write() if self.dtype == "float32" else run(write)

        values = {}

        def initial(path):
            if path not in values:
                values.update(compute())
            # The variable made of it is all that is needed.
            return values.pop(path)

        return initial
