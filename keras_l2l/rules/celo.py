"""Celo and Celo-Adam: rules with a learned schedule and published weights."""

import typing

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import celo_schedule
from keras_l2l.rules import ema
from keras_l2l.rules import moments
from keras_l2l.rules import tensorwise
from keras_l2l.rules import vectors
from keras_l2l.utils import checks


def known_length(name, num_steps):
    """Returns `num_steps`, or raises ValueError if it is `None`.

    Args:
        name: String, the rule's name.
        num_steps: Int or `None`, the length of the training.
    """
    if num_steps is None:
        raise ValueError(
            f"{name} must know the length of the training. "
            "Received: num_steps=None. Pass num_steps=..., the number of "
            "optimizer steps, to the rule or to from_preset; or "
            "callbacks=[keras_l2l.TrainingLength()] to fit."
        )
    return num_steps


class _Scheduled(tensorwise.TensorwiseRule):
    """Rule with a learned schedule: `-0.001 * factor * direction`.

    Subclasses implement `init_direction`, `init_tensor_state` and, instead of
    `tensor_step`, `direction`.

    Args:
        num_steps: Int >= 1, the length of the training.

    Raises:
        ValueError: if `num_steps` is not such an int.
    """

    uses_loss = True

    def __init__(self, num_steps: int | None = None) -> None:
        if num_steps is not None:
            num_steps = checks.require_int("num_steps", num_steps)
        self.num_steps = num_steps

    def init_direction(self, seed: int) -> dict[str, typing.Any]:
        """Returns the fresh meta-parameters of the direction, a dict."""
        raise NotImplementedError

    def direction(
        self,
        meta_params: typing.Any,
        gradient: typing.Any,
        param: typing.Any,
        state: typing.Any,
        iteration: typing.Any,
    ) -> tuple[typing.Any, typing.Any]:
        """Computes the direction of one optimizee tensor.

        Args:
            meta_params: As from `init_direction`.
            gradient: Tensor.
            param: Tensor of the same shape, or `None`.
            state: As from `init_tensor_state`.
            iteration: Scalar integer tensor, inner steps taken so far.

        Returns:
            Tuple `(direction, state)`.
        """
        raise NotImplementedError

    def for_num_steps(self, num_steps, steps_per_epoch=None):
        if self.num_steps is not None:
            return self
        return type(self)(num_steps)

    def init_meta_params(self, seed):
        return {
            "schedule": celo_schedule.init_meta_params(seed),
            **self.init_direction(seed),
        }

    def init_state(self, shapes):
        return {
            "schedule": celo_schedule.init_state(),
            "tensors": [self.init_tensor_state(shape) for shape in shapes],
        }

    def step(self, meta_params, inputs, state):
        num_steps = known_length(type(self).__name__, self.num_steps)
        if inputs.loss is None:
            raise ValueError(
                f"{type(self).__name__} must see the loss of each step. "
                "Received: StepInputs with loss=None. Pass it."
            )
        # A NaN that enters the schedule would stay in it.
        finite = ops.isfinite(inputs.loss)
        factor, schedule = celo_schedule.step(
            meta_params["schedule"],
            ops.where(finite, inputs.loss, ops.zeros_like(inputs.loss)),
            state["schedule"],
            inputs.iteration,
            num_steps,
        )
        schedule = vectors.where(finite, schedule, state["schedule"])
        updates, tensors = self.step_tensors(
            meta_params, inputs, state["tensors"], (factor, inputs.iteration)
        )
        return updates, {"schedule": schedule, "tensors": tensors}

    def tensor_step(self, meta_params, gradient, param, state, shared):
        factor, iteration = shared
        direction, state = self.direction(
            meta_params, gradient, param, state, iteration
        )
        return -0.001 * factor * direction, state

    def get_config(self):
        return {"num_steps": self.num_steps}


@keras.saving.register_keras_serializable(package="keras_l2l")
class CeloAdam(_Scheduled):
    """Adam with a learned learning rate schedule.

    ```
    m = 0.9 * m + 0.1 * gradient
    r = 0.999 * r + 0.001 * gradient ** 2
    m_hat, r_hat = m / (1 - 0.9 ** t), r / (1 - 0.999 ** t)   t = iteration + 1
    update = -0.001 * factor * m_hat / (sqrt(r_hat + 1e-10) + 1e-8)
    ```

    `factor` comes from a recurrent network that sees past losses and how much
    of the training is over; see `Celo`.

    Args:
        num_steps: Int >= 1, the length of the training in steps. `None` if it
            will be set by `for_num_steps`, which meta-training and
            `keras_l2l.TrainingLength` call.

    Raises:
        ValueError: if `num_steps` is not such an int, or if a step lacks it or
            the loss.

    Reference:
        Moudgil et al., 2025 (arXiv 2501.12670).
    """

    uses_params = False

    def init_direction(self, seed):
        return {}

    def init_tensor_state(self, shape):
        return {
            "m": ops.zeros(shape, dtype="float32"),
            "r": ops.zeros(shape, dtype="float32"),
        }

    def direction(self, meta_params, gradient, param, state, iteration):
        m = ema.update(state["m"], gradient, 0.9)
        r = ema.update(state["r"], ops.square(gradient), 0.999)
        t = ops.cast(iteration, gradient.dtype) + 1
        # `expm1` is precise where the decay is close to 1.
        m_hat = m / -ops.expm1(np.log(0.9) * t)
        r_hat = r / -ops.expm1(np.log(0.999) * t)
        return m_hat / (1e-8 + ops.sqrt(r_hat + 1e-10)), {"m": m, "r": r}


@keras.saving.register_keras_serializable(package="keras_l2l")
class Celo(_Scheduled):
    """A small network for each coordinate, with a learned schedule.

    ```
    features = gradient, parameter, EMAs of gradients and of their squares,
        also factored; each divided by its root mean square over the tensor
    direction, magnitude = network(features)
    update = -0.001 * factor * direction * exp(0.001 * magnitude)
        * root mean square of the parameters
    ```

    `factor` comes from a recurrent network that sees past losses and how much
    of the training is over. The state has four floats per element, or seven in
    tensors with fewer than two axes, and means along two axes.

    Args:
        num_steps: Int >= 1, the length of the training in steps. `None` if it
            will be set by `for_num_steps`, which meta-training and
            `keras_l2l.TrainingLength` call.

    Raises:
        ValueError: if `num_steps` is not such an int, or if a step lacks it or
            the loss.

    Reference:
        Moudgil et al., 2025 (arXiv 2501.12670); the network and its features:
        Metz et al., 2022 (arXiv 2203.11860).
    """

    def init_direction(self, seed):
        return moments.init_network(seed)

    def init_tensor_state(self, shape):
        return moments.init_state(shape)

    def where(self, mask, new, old):
        return moments.where(mask, new, old)

    def direction(self, meta_params, gradient, param, state, iteration):
        state = moments.update(state, gradient)
        direction, magnitude = moments.network(
            meta_params, moments.features(gradient, param, state)
        )
        scale = ops.sqrt(ops.mean(ops.square(param)) + 1e-9)
        return direction * ops.exp(0.001 * magnitude) * scale, state
