"""The pure update rule: what every optimizer of this package is made of."""

import math
import typing

import keras
from keras import ops

from keras_l2l import nests


class StepInputs(typing.NamedTuple):
    """What a rule sees at one inner step.

    Attributes:
        gradients: List of tensors, one per optimizee tensor.
        params: List of tensors, the values before the step, same shapes.
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


class UpdateRule:
    """A pure update rule: (meta_params, inputs, state) -> (updates, state).

    A rule holds configuration and no variables. The same object serves
    meta-training (which differentiates through `step`), `LearnedOptimizer`
    (which owns the variables) and export.

    Subclasses implement `init_meta_params`, `init_state`, `step` and
    `get_config`, in `keras.ops`, and are registered with
    `keras.saving.register_keras_serializable`, so that presets and saved
    models can name them. To treat all coordinates alike, start from
    `CoordinatewiseRule`.
    """

    def for_variables(self, variables):
        """Returns the rule to use for these variables, by default itself.

        Args:
            variables: List of the `keras.Variable`s (or what has their
                `path`, `shape` and `dtype`) that are going to be updated.
        """
        return self

    def init_meta_params(self, seed):
        """Returns fresh meta-parameters: a nest of dicts of float tensors."""
        raise NotImplementedError

    def init_state(self, shapes):
        """Returns the state before the first step, a nest of float tensors.

        Args:
            shapes: List of the shapes (tuples of ints) of the optimizee
                tensors, in the order of `StepInputs.gradients`.
        """
        raise NotImplementedError

    def state_size(self, shapes):
        """Returns the number of floats in the state for these shapes."""
        return nests.count_params(self.init_state(shapes))

    def step(self, meta_params, inputs, state):
        """Computes one update of every optimizee tensor.

        Args:
            meta_params: Nest of tensors as from `init_meta_params`.
            inputs: `StepInputs`.
            state: Nest of tensors as from `init_state`.

        Returns:
            Tuple `(updates, state)`: one update per gradient, of the same
            shape. The caller *adds* `learning_rate * update` to the parameter.
        """
        raise NotImplementedError

    def get_config(self):
        """Returns the constructor's arguments as a JSON-able dict."""
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class CoordinatewiseRule(UpdateRule):
    """A rule that treats every coordinate alike, each with its own state.

    `step` joins all tensors into one vector, calls `coordinate_step` once and
    splits the result, so a model of 100 tensors costs one cell call.
    Subclasses implement `init_coordinate_state` and `coordinate_step`.
    """

    def init_coordinate_state(self, n):
        """Returns the state of `n` coordinates: tensors `[n, ...]`, nested."""
        raise NotImplementedError

    def coordinate_step(self, meta_params, gradient, state, iteration):
        """Computes the updates of `n` coordinates.

        Args:
            meta_params: Nest of tensors as from `init_meta_params`.
            gradient: Tensor of shape `[n]`.
            state: Nest of tensors as from `init_coordinate_state`.
            iteration: Scalar integer tensor, inner steps taken so far.

        Returns:
            Tuple `(update, state)`, `update` of shape `[n]`.
        """
        raise NotImplementedError

    def init_state(self, shapes):
        return self.init_coordinate_state(sum(map(math.prod, shapes)))

    def state_size(self, shapes):
        # Of one coordinate, so that nothing large is allocated.
        per_coordinate = nests.count_params(self.init_coordinate_state(1))
        return per_coordinate * sum(map(math.prod, shapes))

    def step(self, meta_params, inputs, state):
        shapes = [tuple(g.shape) for g in inputs.gradients]
        gradient = _join(inputs.gradients)

        def free():
            return self.coordinate_step(
                meta_params, gradient, state, inputs.iteration
            )

        if inputs.mask is None:
            update, new_state = free()
        else:
            mask = _join(
                [
                    ops.broadcast_to(True if m is None else m, shape)
                    for m, shape in zip(inputs.mask, shapes, strict=True)
                ]
            )
            # Most steps mask nothing, and selecting the state costs as much
            # as half a step: only where something is masked.
            update, new_state = ops.cond(
                ops.all(mask),
                free,
                lambda: self.masked_coordinate_step(
                    meta_params, gradient, state, inputs.iteration, mask
                ),
            )
        return _split(update, shapes), new_state

    def masked_coordinate_step(
        self, meta_params, gradient, state, iteration, mask
    ):
        """Is `coordinate_step`, but nothing changes where `mask` is False."""
        # A NaN must not enter the rule: it spreads by 0 * NaN.
        update, new_state = self.coordinate_step(
            meta_params,
            ops.where(mask, gradient, ops.zeros_like(gradient)),
            state,
            iteration,
        )
        new_state = keras.tree.map_structure(
            lambda new, old: _select(mask, new, old), new_state, state
        )
        return _select(mask, update, ops.zeros_like(update)), new_state


def serialize(rule):
    """Returns `{"class_name": ..., "config": ...}` for a rule.

    Raises:
        ValueError: if the rule's class is not registered with Keras, so that
            nothing could find it again.
    """
    name = keras.saving.get_registered_name(type(rule))
    if keras.saving.get_registered_object(name) is not type(rule):
        raise ValueError(
            "A rule's class must be registered with Keras to be saved. "
            f"Received: {type(rule).__name__}. Decorate it with "
            "@keras.saving.register_keras_serializable(package=...)."
        )
    return {
        "class_name": name,
        "config": rule.get_config(),
    }


def deserialize(config):
    """Rebuilds a rule from `serialize`'s dict.

    Only classes registered with Keras are looked up, by name: nothing is
    imported and no code in `config` is run.

    Raises:
        ValueError: if `config` does not name a registered rule, or the rule
            does not accept the configuration.
    """
    try:
        name, arguments = config["class_name"], config["config"]
    except (TypeError, KeyError):
        raise ValueError(
            'A rule\'s configuration must be a dict with "class_name" and '
            f'"config". Received: {config!r}'
        ) from None
    cls = keras.saving.get_registered_object(name)
    if not (isinstance(cls, type) and issubclass(cls, UpdateRule)):
        known = sorted(
            registered
            for registered, value in keras.saving.get_custom_objects().items()
            if isinstance(value, type) and issubclass(value, UpdateRule)
        )
        raise ValueError(
            "The rule's class must be registered with Keras. Received: "
            f"class_name={name!r}. Registered rules: {', '.join(known)}. For "
            "a rule of your own, import its module first; its class needs "
            "@keras.saving.register_keras_serializable(package=...)."
        )
    try:
        return cls.from_config(arguments)
    except TypeError as error:
        raise ValueError(
            f"{name} does not accept the configuration {arguments!r}: {error}"
        ) from error


def _join(tensors):
    return ops.concatenate([ops.reshape(t, (-1,)) for t in tensors])


def _split(vector, shapes):
    sizes = [math.prod(shape) for shape in shapes]
    # Static slices, not `ops.split`: its gradient is the cheaper one and
    # zero-sized tensors are allowed.
    pieces, start = [], 0
    for size, shape in zip(sizes, shapes, strict=True):
        pieces.append(ops.reshape(vector[start : start + size], shape))
        start += size
    return pieces


def _select(mask, new, old):
    mask = ops.reshape(mask, (-1,) + (1,) * (len(new.shape) - 1))
    return ops.where(mask, new, old)
