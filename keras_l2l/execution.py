"""How a step of a rule is run: compiled, and its state updated in place."""

import keras

from keras_l2l import backends
from keras_l2l import chunks
from keras_l2l import nests
from keras_l2l.rules import programs


class Execution:
    """Runs a rule on state in variables.

    Args:
        rule: `UpdateRule`, which knows the variables.
        storage: `Storage` of the state.
    """

    def __init__(self, rule, storage):
        self._rule, self._storage = rule, storage

    def initial(self, parts):
        """Returns a function from a path in the state to what to store there.

        Args:
            parts: List of the lists of shapes of each part.
        """
        shared = programs.Programs(
            "initial", self._rule, self._storage.dtype, parts
        )
        return self._storage.initial(
            lambda: [self._rule.init_state(shapes) for shapes in parts],
            lambda function: shared.run(function, jit_compile=True),
        )

    def step(self, meta_params, inputs, variables):
        """Moves the state on, and returns the updates.

        Args:
            meta_params, inputs: As for `UpdateRule.step`.
            variables: Nest of the variables that hold the state.
        """
        rule, storage = self._rule, self._storage

        def step(meta_params, inputs, variables):
            updates, stored = rule.step_in_place(
                meta_params,
                inputs,
                keras.tree.map_structure(backends.read, variables),
                storage,
            )
            for (_, variable), (_, value) in zip(
                nests.named_leaves(variables),
                nests.named_leaves(stored),
                strict=True,
            ):
                variable.assign(value)
            return updates

        if rule.compiles_tensors:
            return step(meta_params, inputs, variables)
        in_chunks = chunks.CHUNK, backends.writes_in_place()
        shared = programs.Programs("part", rule, storage.dtype, in_chunks)
        return shared.run(
            step, meta_params, inputs, variables, jit_compile=rule.jit_compile
        )
