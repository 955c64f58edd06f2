"""Moving averages of gradients that several rules see."""

import numpy as np
from keras import ops


def decayed(average, value, decay):
    """Returns an exponential moving average, one step on.

    Args:
        average: Tensor.
        value: Tensor that broadcasts to it.
        decay: Number in [0, 1), or tensor that broadcasts to `average`.
    """
    return decay * average + (1 - decay) * value


def moving_averages(averages, value, decays):
    """Returns averages `[len(decays), ...]` with a new value, one step on."""
    decays = np.reshape(decays, (-1,) + (1,) * len(value.shape))
    return decayed(averages, value, ops.convert_to_tensor(decays, value.dtype))


class Factored:
    """Second moments of one tensor, by their means along two axes (Adafactor).

    Of a tensor with two or more axes, only averages along its largest axis
    (`row`) and along its second largest (`column`) are kept; of another one,
    all of them (`full`).

    Args:
        shape: Tuple of ints, the tensor's.
        decays: List of numbers in [0, 1): as many averages.

    Attributes:
        is_factored: Bool.

    Reference:
        Shazeer and Stern, 2018 (arXiv 1804.04235).
    """

    def __init__(self, shape, decays):
        self._shape = tuple(shape)
        self._decays = decays
        self.is_factored = len(shape) >= 2
        if self.is_factored:
            # Counted from the end: averages have an axis more in front.
            *_, second, first = np.argsort(shape, kind="stable")
            self._largest = int(first) - len(shape)
            self._second = int(second) - len(shape)

    def init_state(self):
        """Returns a dict of zeros, `row` and `column`, or `full`."""
        number = len(self._decays)
        if not self.is_factored:
            return {"full": ops.zeros((number, *self._shape), dtype="float32")}
        return {
            name: ops.zeros(
                (number, *self._without(self._shape, axis)), dtype="float32"
            )
            for name, axis in self._axes()
        }

    def update(self, state, squares):
        """Returns the state with new squares, of the tensor's shape."""
        if not self.is_factored:
            return {
                "full": moving_averages(state["full"], squares, self._decays)
            }
        return {
            name: moving_averages(
                state[name], ops.mean(squares, axis=axis), self._decays
            )
            for name, axis in self._axes()
        }

    def where(self, mask, new, old):
        """Returns a state, the old one where all that it is of is masked out.

        Args:
            mask: Bool tensor that broadcasts to the tensor.
            new, old: As from `init_state`.
        """
        mask = ops.broadcast_to(mask, self._shape)
        if not self.is_factored:
            return {"full": ops.where(mask, new["full"], old["full"])}
        return {
            name: ops.where(ops.any(mask, axis=axis), new[name], old[name])
            for name, axis in self._axes()
        }

    def expanded(self, state):
        """Returns `(row, column)` that broadcast to `[averages, *shape]`."""
        if not self.is_factored:
            return state["full"], state["full"]
        return tuple(
            ops.expand_dims(state[name], axis) for name, axis in self._axes()
        )

    def _axes(self):
        return (("row", self._largest), ("column", self._second))

    @staticmethod
    def _without(shape, axis):
        shape = list(shape)
        del shape[axis]
        return shape

    def normalizers(self, state):
        """Returns factors of the gradient, broadcasting to `expanded`'s.

        ```
        rsqrt(row / (mean of row + 1e-9)) * rsqrt(column)
        rsqrt(full + 1e-9)                             if not factored
        ```

        where `rsqrt(x) = 1 / sqrt(max(x, 1e-9))`.
        """
        if not self.is_factored:
            return _rsqrt(state["full"] + 1e-9)
        row, column = self.expanded(state)
        mean = ops.mean(row, axis=self._second, keepdims=True)
        return _rsqrt(row / (mean + 1e-9)) * _rsqrt(column)


def _rsqrt(x):
    return ops.rsqrt(ops.maximum(x, 1e-9))
