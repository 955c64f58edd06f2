"""How a step of a rule is run: compiled, and its state updated in place.

Each kind of rule has its `Execution`; `execution_of` chooses it. A rule itself
knows nothing of this.
"""

import collections
import copy
import functools
import math

import keras

from keras_l2l.optimizer import chunks
from keras_l2l.optimizer import programs
from keras_l2l.optimizer import state_parts
from keras_l2l.rules import BlockwiseRule
from keras_l2l.rules import CoordinatewiseRule
from keras_l2l.rules import Partition
from keras_l2l.rules import TensorwiseRule
from keras_l2l.rules import blockwise
from keras_l2l.rules import specs
from keras_l2l.rules import vectors
from keras_l2l.utils import backends
from keras_l2l.utils import nests

# XLA compiles the tensors of one shape if they have at least this many elements
# in all: a thousand steps then save the second that it takes to compile.
_LARGE = 2**15
# Elements that stand for the fixed cost of a tensor.
_OVERHEAD = 2**10


def execution_of(rule, storage):
    """Returns the `Execution` for this kind of rule.

    Args:
        rule: `UpdateRule`, bound to its variables.
        storage: `Storage` of the state.
    """
    for kind, execution in (
        (CoordinatewiseRule, VectorExecution),
        (TensorwiseRule, TensorExecution),
        (BlockwiseRule, BlockExecution),
        (Partition, PartitionExecution),
    ):
        if isinstance(rule, kind):
            return execution(rule, storage)
    return Execution(rule, storage)


class Execution:
    """Runs any rule, as one program.

    Args:
        rule: `UpdateRule`, bound to its variables.
        storage: `Storage` of the state.
    """

    def __init__(self, rule, storage):
        self.rule, self.storage = rule, storage

    def divide(self, shapes):
        """Returns how the state is divided into parts, by default into one.

        Parts are updated side by side. Each has a state as from
        `rule.init_state` for its shapes.

        Args:
            shapes: List of tuples of ints, the variables' shapes.
        """
        return state_parts.Groups(shapes, [range(len(shapes))])

    def state_spec(self, shapes):
        """Returns a nest of `keras.KerasTensor` like `rule.init_state(shapes)`.

        Nothing is allocated.
        """
        return specs.of(self.rule, "init_state", list(map(tuple, shapes)))

    def initial(self, parts):
        """Returns a function from a path in the state to what to store there.

        Args:
            parts: List of the lists of shapes of each part.
        """
        shared = programs.Programs(
            "initial", self.rule, self.storage.dtype, parts
        )
        return self.storage.initial(
            lambda: [self.rule.init_state(shapes) for shapes in parts],
            lambda function: shared.run(function, jit_compile=True),
        )

    def step(self, rate, meta_params, inputs, variables):
        """Moves the state one step on and returns `rate` times the updates.

        Args:
            rate: Scalar tensor, the learning rate. To multiply by it within a
                program takes no pass over the elements.
            meta_params, inputs: As for `UpdateRule.step`.
            variables: Nest of the variables that hold the state.
        """
        shared = programs.Programs(
            "step",
            self.rule,
            self.storage.dtype,
            chunks.CHUNK,
            backends.writes_in_place(),
        )
        return shared.run(
            self._assign_step,
            rate,
            meta_params,
            inputs,
            variables,
            jit_compile=self.rule.jit_compile,
        )

    def _assign_step(self, rate, meta_params, inputs, variables):
        stored = keras.tree.map_structure(backends.read, variables)
        updates, stored = self.stored_step(meta_params, inputs, stored)
        _assign(variables, stored)
        return [rate * update for update in updates]

    def stored_step(self, meta_params, inputs, stored):
        """Returns the updates and the next state, for a state as it is stored.

        Args:
            meta_params, inputs: As for `UpdateRule.step`.
            stored: Nest like the state, of tensors as the storage writes them.
                Not used again, so that it can be overwritten.
        """
        updates, state = self.rule.step(
            meta_params, inputs, self.storage.read(stored)
        )
        return updates, self.storage.write(state)


def _assign(variables, values):
    """Assigns the tensors of one nest to the variables of another."""
    for (_, variable), (_, value) in zip(
        nests.named_leaves(variables), nests.named_leaves(values), strict=True
    ):
        variable.assign(value)


class VectorExecution(Execution):
    """Runs a coordinatewise rule on a vector, in chunks.

    Whatever the size of the model, little memory is transient.
    """

    def stored_step(self, meta_params, inputs, stored):
        def step(gradient, stored, mask):
            update, state = self.rule.masked_coordinate_step(
                meta_params,
                gradient,
                self.storage.read(stored),
                inputs.iteration,
                mask,
            )
            return update, self.storage.write(state)

        return vectors.on_vectors(
            inputs,
            lambda gradient, mask: chunks.map_in_chunks(
                step, gradient, stored, mask
            ),
        )


class TensorExecution(Execution):
    """Runs a tensorwise rule, with one program for all tensors of a shape.

    XLA takes six times as long to compile one program of a hundred tensors.
    """

    def state_spec(self, shapes):
        # Once for each shape: a deep model has hundreds of tensors.
        shapes = list(map(tuple, shapes))
        known = copy.copy(self.rule)
        known.init_tensor_state = functools.cache(
            functools.partial(specs.of, self.rule, "init_tensor_state")
        )
        return keras.tree.map_structure(
            lambda t: keras.KerasTensor(t.shape), known.init_state(shapes)
        )

    def step(self, rate, meta_params, inputs, variables):
        return self._assign_step(rate, meta_params, inputs, variables)

    def stored_step(self, meta_params, inputs, stored):
        compiled = copy.copy(self.rule)
        shapes = collections.Counter(tuple(g.shape) for g in inputs.gradients)
        compiled.masked_tensor_step = functools.partial(
            self._tensor_step, programs.Programs("tensor", self.rule), shapes
        )
        updates, state = compiled.step(
            meta_params, inputs, self.storage.read(stored)
        )
        return updates, self.storage.write(state)

    def _tensor_step(self, shared, shapes, meta_params, gradient, *others):
        shape = tuple(gradient.shape)
        elements = shapes[shape] * (math.prod(shape) + _OVERHEAD)
        # GPUs start each operation of a graph by itself, which always costs.
        pays = elements >= _LARGE or backends.has_gpu()
        return shared.run(
            self.rule.masked_tensor_step,
            meta_params,
            gradient,
            *others,
            jit_compile=self.rule.jit_compile and pays,
        )


class BlockExecution(Execution):
    """Runs a blockwise rule, with one program for all arrays of a shape.

    Tensors are joined and split outside of it: XLA takes a minute to compile
    that for a model of two hundred.
    """

    def divide(self, shapes):
        return state_parts.Groups(shapes, blockwise.groups(shapes))

    def step(self, rate, meta_params, inputs, variables):
        if keras.backend.backend() == "torch" and not chunks.has_slices(
            inputs.gradients
        ):
            # What Keras does around each operation costs most.
            return super().step(rate, meta_params, inputs, variables)
        updates, _ = self.rule.step_groups(
            lambda *args: (self._run(rate, *args), None),
            *(meta_params, inputs, variables),
        )
        return updates

    def _run(
        self,
        rate,
        meta_params,
        gradient,
        param,
        mask,
        variables,
        blocks,
        inputs,
    ):
        arrays = gradient, param, mask, variables
        if blocks.sample is None or blocks.tensor_of_row is not None:
            step, further = self.rule.masked_block_step, (blocks, inputs)
            return self._assign(step, rate, meta_params, *arrays, *further)
        # A sample of one tensor is always of one size, and so has the same
        # program, which takes longer to compile than all others.
        stored = keras.tree.map_structure(backends.read, variables)
        sample = programs.if_eager(
            "sampled",
            *(blockwise.sampled, (gradient, param, mask, stored)),
            blocks.sample,
        )
        known = self._compiled(
            "sample", self._sample_step, meta_params, *sample, blocks, inputs
        )

        def step(*arrays):
            return self._assign(
                self.rule.known_step,
                *(rate, meta_params, *arrays, known, blocks, inputs),
            )

        if keras.backend.backend() == "torch":
            # Others come as one program, see `step`.
            step = functools.partial(chunks.run_in_slices, step)
        return step(*arrays)

    def _compiled(self, what, function, *args):
        shared = programs.Programs(
            what, self.rule, self.storage.dtype, backends.writes_in_place()
        )
        # XLA compiles once for each device. That takes longer than all else in
        # a test of replicas.
        jit_compile = self.rule.jit_compile and not backends.has_cpu_replicas()
        return shared.run(function, *args, jit_compile=jit_compile)

    def _sample_step(self, *args):
        *others, stored, blocks, inputs = args
        return self.rule.sample_step(
            *others, self.storage.read(stored), blocks, inputs
        )

    def _assign(self, step, *args):
        """Computes a step of the rule, and assigns the state; compiled."""

        def assign(
            rate, meta_params, gradient, param, mask, variables, *further
        ):
            stored = keras.tree.map_structure(backends.read, variables)
            update, state = step(
                *(meta_params, gradient, param, mask),
                *(self.storage.read(stored), *further),
            )
            _assign(variables, self.storage.write(state))
            return rate * update

        return self._compiled(step.__name__, assign, *args)


class PartitionExecution(Execution):
    """Runs each member of a `Partition` as its kind of rule is run."""

    def step(self, rate, meta_params, inputs, variables):
        def step_of(rule):
            step = execution_of(rule, self.storage).step
            return lambda *args: (step(rate, *args), None)

        updates, _ = self.rule.step_members(
            step_of, meta_params, inputs, variables
        )
        return updates
