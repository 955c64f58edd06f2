"""Measures the updates of an optimizer, within its train step."""

import itertools
import math

import keras
from keras import ops

from keras_l2l.utils import backends

# Of Keras' Adam.
_RATE, _BETA_1, _BETA_2, _EPSILON = 0.001, 0.9, 0.999, 1e-7


class Observer:
    """Called with each update of an optimizer; measures some of them.

    Adam's update is that of Keras' default, with moments of all gradients
    since the observer began. They take 8 bytes per parameter.

    Args:
        interval: Int, steps of the optimizer from one measurement to the next.

    Attributes:
        variables: List of its own variables, which `make` makes.
        observed: List of the variables that the optimizer updates.
    """

    def __init__(self, interval):
        self._interval = interval
        self.variables, self.observed = [], []

    def make(self, observed):
        """Makes its variables.

        Args:
            observed: List of the variables that the optimizer updates.
        """
        self.observed = observed
        # As one vector: hundreds of small operations would take longer.
        sizes = [math.prod(v.shape) for v in observed]
        ends = itertools.accumulate(sizes, initial=0)
        self._bounds, size = list(itertools.pairwise(ends)), sum(sizes)
        self._first, self._second = self._zeros((size,)), self._zeros((size,))
        self._steps = self._zeros((), "int32")
        # The step of the measurement, from 1.
        self._at = self._zeros((), "int32")
        # For each variable: mean squares of its values, of the update and of
        # Adam's, and the share of coordinates without a gradient.
        self._measured = self._zeros((len(observed), 4))

    def _zeros(self, shape, dtype="float32"):
        variable = keras.Variable(
            ops.zeros(shape, dtype), trainable=False, dtype=dtype
        )
        self.variables.append(variable)
        return variable

    def __call__(self, received, updates, iteration):
        """Follows Adam, and measures every `interval` steps.

        Args:
            received: `rules.gradients.Received`.
            updates: List of tensors, which will be added to the variables.
            iteration: Scalar integer tensor, steps taken so far.
        """
        gradient = ops.concatenate(
            [ops.reshape(g, (-1,)) for g in received.gradients]
        )
        # One that is not finite must not stay in the moments.
        gradient = ops.where(
            ops.isfinite(gradient), gradient, ops.zeros_like(gradient)
        )
        self._first.assign(_BETA_1 * self._first + (1 - _BETA_1) * gradient)
        self._second.assign(
            _BETA_2 * self._second + (1 - _BETA_2) * ops.square(gradient)
        )
        # Before it is assigned: PyTorch writes into what was read.
        is_due = ops.equal(backends.read(self._steps) % self._interval, 0)
        self._steps.assign(self._steps + 1)
        step = ops.cast(iteration, "int32")
        measured, at = ops.cond(
            is_due,
            lambda: (self._measure(received, updates), step + 1),
            lambda: (backends.read(self._measured), backends.read(self._at)),
        )
        self._measured.assign(measured)
        self._at.assign(at)

    def _measure(self, received, updates):
        steps = ops.cast(self._steps, "float32")
        rate = _RATE * ops.sqrt(1 - _BETA_2**steps) / (1 - _BETA_1**steps)
        adams = rate * self._first / (ops.sqrt(self._second) + _EPSILON)
        rows, masks = [], received.mask or [True] * len(updates)
        for variable, (start, end), update, mask in zip(
            self.observed, self._bounds, updates, masks, strict=True
        ):
            value = ops.cast(backends.read(variable), "float32")
            squares = [
                ops.mean(ops.square(tensor))
                for tensor in (value, update, adams[start:end])
            ]
            # Some rules mask only what is not finite.
            never = ops.equal(self._second[start:end], 0)
            masked = ops.logical_or(
                ops.logical_not(mask), ops.reshape(never, update.shape)
            )
            masked = ops.mean(ops.cast(masked, "float32"))
            rows.append(ops.stack([*squares, masked]))
        return ops.stack(rows)

    def read(self):
        """Returns the last measurement, or `None`.

        Returns:
            Tuple of the step, from 1, and an array `[variables, 4]`: root mean
            squares of the values, of the update and of Adam's update, and the
            share of coordinates without a gradient.
        """
        if not self.variables:
            return None
        step = int(ops.convert_to_numpy(self._at))
        found = ops.convert_to_numpy(self._measured).copy()
        found[:, :3] **= 0.5
        return (step, found) if step else None
