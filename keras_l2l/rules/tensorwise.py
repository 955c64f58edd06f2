"""Rules that update one optimizee tensor after the other."""

import collections
import copy
import math

import keras
from keras import ops

from keras_l2l import backends
from keras_l2l.rules import base
from keras_l2l.rules import moments
from keras_l2l.rules import programs
from keras_l2l.rules import vectors

# Elements of all tensors of one shape from which XLA saves in a thousand steps
# what it takes to compile for them, about a second; below, plain graphs do. On
# GPUs, where each operation of a graph is started by itself, it always pays.
_LARGE = 2**15
# What a tensor costs by itself, in elements.
_OVERHEAD = 2**10


class TensorwiseRule(base.UpdateRule):
    """A rule that treats every tensor alike, each with its own state.

    Subclasses implement `init_tensor_state` and `tensor_step`, and call
    `step_tensors` from `step`.
    """

    # XLA takes six times as long for one program of a hundred tensors as for
    # one of each shape. Not where it is differentiated, which takes minutes.
    compiles_tensors = True

    def init_state(self, shapes):
        return [self.init_tensor_state(shape) for shape in shapes]

    def init_tensor_state(self, shape):
        """Returns the state of one optimizee tensor, a nest of tensors."""
        raise NotImplementedError

    def tensor_step(self, meta_params, gradient, param, state, shared):
        """Computes the update of one optimizee tensor.

        Args:
            meta_params: As from `init_meta_params`.
            gradient: Tensor, of not too large numbers.
            param: Tensor of that shape, or `None`.
            state: As from `init_tensor_state`.
            shared: What `step_tensors` was given.

        Returns:
            Tuple `(update, state)`.
        """
        raise NotImplementedError

    def where(self, mask, new, old):
        """Returns a tensor's state, the old one where not masked."""
        return vectors.where(mask, new, old)

    def step_tensors(self, meta_params, inputs, states, shared):
        """Returns a list of updates and one of states, of all tensors."""
        masks = inputs.mask or [None] * len(inputs.gradients)
        updates, after = [], []
        for gradient, param, mask, before in zip(
            inputs.gradients, inputs.params, masks, states, strict=True
        ):
            update, state = self._masked_step(
                meta_params, gradient, param, mask, before, shared
            )
            updates.append(update)
            after.append(state)
        return updates, after

    def state_spec(self, shapes):
        # Once for each shape: a deep model has hundreds of tensors.
        different = list(dict.fromkeys(map(tuple, shapes)))
        specs = backends.abstract(
            lambda: [self.init_tensor_state(shape) for shape in different]
        )
        known = copy.copy(self)
        known.init_tensor_state = dict(
            zip(different, specs, strict=True)
        ).__getitem__
        return keras.tree.map_structure(
            lambda t: keras.KerasTensor(t.shape),
            known.init_state(list(map(tuple, shapes))),
        )

    def step_in_place(self, meta_params, inputs, stored, storage):
        compiled = copy.copy(self)
        compiled._masked_step = self._compiled(inputs.gradients)
        return super(TensorwiseRule, compiled).step_in_place(
            meta_params, inputs, stored, storage
        )

    def _compiled(self, gradients):
        """Returns `_masked_step` as it is where it is not differentiated."""
        shapes = collections.Counter(tuple(g.shape) for g in gradients)
        shared = programs.Programs("tensor", self)

        def masked_step(meta_params, gradient, *others):
            shape = tuple(gradient.shape)
            work = shapes[shape] * (math.prod(shape) + _OVERHEAD)
            return shared.run(
                self._masked_step,
                meta_params,
                gradient,
                *others,
                jit_compile=self.jit_compile
                and (work >= _LARGE or backends.has_gpu()),
            )

        return masked_step

    def _masked_step(self, meta_params, gradient, param, mask, before, shared):
        """Is `tensor_step`, but leaves coordinates that are masked alone."""
        if mask is not None:
            gradient = ops.where(mask, gradient, ops.zeros_like(gradient))
        largest = moments.LARGEST_GRADIENT
        gradient = ops.clip(gradient, -largest, largest)
        update, state = self.tensor_step(
            meta_params, gradient, param, before, shared
        )
        if mask is not None:
            update = ops.where(mask, update, ops.zeros_like(update))
            state = self.where(mask, state, before)
        return update, state
