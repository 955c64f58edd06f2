"""The base classes of update rules."""

import math
import typing
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_l2l.rules import updates
from keras_l2l.rules import vectors
from keras_l2l.utils import nests

StepInputs = updates.StepInputs


class UpdateRule:
    """Pure update rule: (meta_params, inputs, state) -> (updates, state).

    A rule holds configuration and no variables. The same object serves
    meta-training (which differentiates through `step`), `LearnedOptimizer`
    (which owns the variables) and export.

    Subclasses implement `init_meta_params`, `init_state`, `step` and
    `get_config` with `keras.ops`. They are registered with
    `keras.saving.register_keras_serializable`, so that presets and saved
    models can refer to them by name. See `CoordinatewiseRule` for rules that
    treat all coordinates alike.

    Attributes:
        uses_params: Bool, whether `step` uses `StepInputs.params`.
        uses_loss: Bool, whether `step` uses `StepInputs.loss`.
        jit_compile: Bool, whether XLA may compile the rule, which makes it
            faster. `False` for a rule with an operation that XLA cannot
            compile.
        rests_without_gradient: Bool, whether the update of a coordinate is 0
            as long as its gradients have all been 0, as in Adam. If it is
            `False`, callers mask such coordinates, and keep one byte for each
            to recognize them.
        rounds_state: Bool, whether the state may be rounded to bfloat16.
            `False` if small changes add up in it, as in moving averages.
    """

    uses_params = True
    uses_loss = False
    jit_compile = True
    rests_without_gradient = False
    rounds_state = False

    @property
    def needs_loss(self) -> bool:
        """Whether `step` requires the loss. By default, if it uses the loss."""
        return self.uses_loss

    @property
    def unused(self) -> list[str]:
        """Names of the meta-parameters that no variable uses, a list."""
        return []

    def for_variables(self, variables: Sequence[typing.Any]) -> "UpdateRule":
        """Returns the rule to use for some variables, by default itself.

        Args:
            variables: List of the `keras.Variable`s to update, or of objects
                with their `path`, `shape` and `dtype`.
        """
        return self

    def for_num_steps(
        self, num_steps: int, steps_per_epoch: float | None = None
    ) -> "UpdateRule":
        """Returns the rule to use for a training of `num_steps` steps.

        By default it is the rule itself. A rule that depends on the length
        takes it here, unless its constructor was given one.

        Args:
            num_steps: Int >= 1, the planned length of the training.
            steps_per_epoch: Float > 0, the steps in which every example is seen
                once. `None` if it is not known.
        """
        return self

    def init_meta_params(self, seed: int) -> typing.Any:
        """Returns fresh meta-parameters: a nest of dicts of float tensors."""
        raise NotImplementedError

    def init_state(self, shapes: Sequence[tuple[int, ...]]) -> typing.Any:
        """Returns the state before the first step, a nest of float tensors.

        Args:
            shapes: List of the shapes (tuples of ints) of the optimizee
                tensors, in the order of `StepInputs.gradients`.
        """
        raise NotImplementedError

    def step(
        self, meta_params: typing.Any, inputs: StepInputs, state: typing.Any
    ) -> tuple[list[typing.Any], typing.Any]:
        """Computes one update of every optimizee tensor.

        Args:
            meta_params: Nest of tensors as from `init_meta_params`.
            inputs: `StepInputs`.
            state: Nest of tensors as from `init_state`.

        Returns:
            Tuple `(updates, state)`: one update per gradient, of the same
            shape. The caller *adds* `learning_rate * update` to the parameter,
            unless `replacements` of the new state says otherwise.
        """
        raise NotImplementedError

    def replacements(
        self, state: typing.Any
    ) -> list[updates.Replacement | None] | None:
        """Returns values that take the place of parameters after a step.

        They are assigned unchanged, whatever the mask and the learning rate;
        see `rules.updates.apply_updates`.

        Args:
            state: Nest of tensors, as returned by `step`.

        Returns:
            `None` for no values (the default), or a list with `None` or a
            `rules.updates.Replacement` for each optimizee tensor.
        """
        return None

    def take(
        self,
        state: typing.Any,
        shapes: Sequence[tuple[int, ...]],
        coordinates: Sequence[typing.Any],
    ) -> typing.Any:
        """Returns the state of some of the coordinates.

        A rule that treats every coordinate independently can then `step` these
        coordinates alone, as tensors `[m]`.

        Args:
            state: Nest of tensors as from `init_state`.
            shapes: As for `init_state`.
            coordinates: List of int tensors `[m]`, for each optimizee tensor
                indices into its flattened elements.

        Returns:
            Nest like `init_state` of shapes `[m]`.

        Raises:
            ValueError: by default, since coordinates may depend on each
                other.
        """
        raise ValueError(
            "A rule whose coordinates are sampled must treat each by itself. "
            f"Received: {type(self).__name__}. Leave out "
            "`sampled_coordinates` and `teacher`."
        )

    def remarks(self, state: typing.Any, steps: int) -> list[str]:
        """Returns messages for the user after a training, a list of strings.

        Args:
            state: Nest of tensors or variables, as from `init_state`.
            steps: Int, that were taken.
        """
        return []

    def get_config(self) -> dict[str, typing.Any]:
        """Returns the constructor's arguments as a JSON-able dict."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, typing.Any]) -> typing.Self:
        return cls(**config)


class CoordinatewiseRule(UpdateRule):
    """Rule that treats every coordinate alike, each with its own state.

    `step` joins all tensors into one vector, calls `coordinate_step` once and
    splits the result, so a model of 100 tensors costs one cell call.
    Subclasses implement `init_coordinate_state` and `coordinate_step`, and
    leave `step` as it is.

    Raises:
        TypeError: where a subclass overrides `step`.
    """

    uses_params = False

    def __init_subclass__(cls, **kwargs: typing.Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls):
            raise TypeError(
                "A CoordinatewiseRule must be defined by `coordinate_step` "
                f"alone. Received: {cls.__name__}, which overrides `step`. "
                "Override `coordinate_step`, or subclass UpdateRule."
            )

    def init_coordinate_state(self, n: int) -> typing.Any:
        """Returns the state of `n` coordinates: tensors `[..., n]`, nested."""
        raise NotImplementedError

    def coordinate_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        state: typing.Any,
        iteration: typing.Any,
    ) -> tuple[typing.Any, typing.Any]:
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

    def take(self, state, shapes, coordinates):
        return vectors.take(state, shapes, coordinates)

    def step(self, meta_params, inputs, state):
        return vectors.on_vectors(
            inputs,
            lambda gradient, mask: self.masked_coordinate_step(
                meta_params, gradient, state, inputs.iteration, mask
            ),
        )

    def masked_coordinate_step(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        state: typing.Any,
        iteration: typing.Any,
        mask: typing.Any = None,
    ) -> tuple[typing.Any, typing.Any]:
        """Computes `coordinate_step`; keeps what `mask` excludes."""
        if mask is None:
            found = self.coordinate_step(
                meta_params, gradient, state, iteration
            )
            return self._checked(found, gradient, state)
        zeros = ops.zeros_like(gradient)
        # A NaN must not enter the rule: it spreads by 0 * NaN.
        found = self.coordinate_step(
            meta_params, ops.where(mask, gradient, zeros), state, iteration
        )
        update, new_state = self._checked(found, gradient, state)
        return (
            ops.where(mask, update, zeros),
            vectors.where(mask, new_state, state),
        )

    def _checked(self, found, gradient, state):
        """Returns what `coordinate_step` did, or raises if it is wrong.

        An update that is too small would be broadcast.
        """
        if not isinstance(found, tuple) or len(found) != 2:
            received = f"an object of type {type(found).__name__}"
            if isinstance(found, tuple):
                received = f"{len(found)} values"
        elif np.shape(found[0]) != tuple(gradient.shape):
            received = f"an update of shape {np.shape(found[0])}"
        elif _names(found[1]) != _names(state):
            received = f"a state of {_names(found[1])}"
        else:
            return found
        raise ValueError(
            f"{type(self).__name__}.coordinate_step must return a pair of an "
            f"update of shape {tuple(gradient.shape)} and a state of "
            f"{_names(state)}. Received: {received}."
        )


def _names(state):
    return [name for name, _ in nests.named_leaves(state)]
