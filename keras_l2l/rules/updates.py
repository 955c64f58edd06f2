"""What a step of a rule takes, and how its updates are applied."""

import typing

from keras import ops


class StepInputs(typing.NamedTuple):
    """What a rule sees at one inner step.

    Attributes:
        gradients: List of tensors, one per optimizee tensor.
        params: List of tensors, the values before the step, same shapes; or
            of `None` for a rule that has no use for them.
        loss: Scalar tensor, the loss that the gradients are of; `None` where
            the caller has none.
        iteration: Scalar integer tensor, inner steps taken so far (0 at the
            first).
        mask: `None`, or a list with `None` (every coordinate is updated) or a
            boolean tensor broadcastable to the gradient: where it is False
            the coordinate stays untouched, value and state.
    """

    gradients: list
    params: list
    loss: typing.Any
    iteration: typing.Any
    mask: list | None = None


class Replacement(typing.NamedTuple):
    """A value that takes the place of a parameter.

    Attributes:
        when: Scalar bool tensor, whether it does.
        value: Tensor of the parameter's shape.
    """

    when: typing.Any
    value: typing.Any


def replace(param, replacement):
    """Returns a parameter, or the value that takes its place.

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
    param = replacement if rule.replacements(state) has one else param + update
    ```

    Args:
        rule: `UpdateRule`.
        params: List of tensors, the values before the step.
        updates, state: As `rule.step` has returned them.
    """
    replacements = rule.replacements(state) or [None] * len(params)
    return [
        replace(param + ops.cast(update, param.dtype), replacement)
        for param, update, replacement in zip(
            params, updates, replacements, strict=True
        )
    ]
