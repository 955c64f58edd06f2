"""The inputs of a rule's step, and how its updates are applied."""

import math
import typing

import numpy as np
from keras import ops


class StepInputs(typing.NamedTuple):
    """Inputs of one step of a rule.

    Attributes:
        gradients: List of tensors, one per optimizee tensor.
        params: List of tensors of the same shapes, the values before the
            step; or of `None` if the rule does not use them.
        loss: Scalar tensor, the loss whose gradients these are; `None` if the
            caller has none.
        iteration: Scalar integer tensor, inner steps taken so far (0 in the
            first step).
        mask: `None`, or a list with `None` (every coordinate is updated) or a
            boolean tensor that broadcasts to the gradient. Where it is False,
            neither the value nor the state of the coordinate changes.
        num_steps: Scalar integer tensor, the length of the training in steps;
            0 or `None` if it is not known. In `fit`, it is `None`: a rule that
            depends on the length is told by `for_num_steps`.
        steps_per_epoch: Scalar float tensor, the steps in which every example
            is seen once; 0 or `None` if it is not known. Likewise `None` in
            `fit`.
        model_size: Scalar, the number of elements of all tensors that are
            updated. `None` where `gradients` are those of all.
    """

    gradients: list
    params: list
    loss: typing.Any
    iteration: typing.Any
    mask: list | None = None
    num_steps: typing.Any = None
    steps_per_epoch: typing.Any = None
    model_size: typing.Any = None

    def size(self) -> typing.Any:
        """Returns `model_size`, or the number of elements of `gradients`."""
        if self.model_size is not None:
            return self.model_size
        return np.float32(sum(math.prod(g.shape) for g in self.gradients))

    def masks(self) -> list[typing.Any] | None:
        """Returns `mask` with tensors of the gradients' shapes, or `None`."""
        if self.mask is None:
            return None
        return [
            ops.broadcast_to(True if m is None else m, tuple(g.shape))
            for m, g in zip(self.mask, self.gradients, strict=True)
        ]


class Replacement(typing.NamedTuple):
    """A value that takes the place of a parameter.

    Attributes:
        when: Scalar bool tensor, whether the parameter is replaced.
        value: Tensor of the parameter's shape.
    """

    when: typing.Any
    value: typing.Any


def replace(param, replacement):
    """Returns a parameter after its replacement.

    Args:
        param: Tensor.
        replacement: `Replacement` or `None`.
    """
    if replacement is None:
        return param
    value = ops.cast(replacement.value, param.dtype)
    return ops.where(replacement.when, value, param)


def apply_updates(rule, params, updates, state):
    """Returns the parameters after a step at a learning rate of 1.0.

    ```
    param = replacement, if rule.replacements(state) has one, else
            param + update
    ```

    Args:
        rule: `UpdateRule`.
        params: List of tensors, the values before the step.
        updates, state: As returned by `rule.step`.
    """
    replacements = rule.replacements(state) or [None] * len(params)
    return [
        replace(param + ops.cast(update, param.dtype), replacement)
        for param, update, replacement in zip(
            params, updates, replacements, strict=True
        )
    ]
