"""Exponential moving averages (EMAs), of gradients and of their squares."""

import numpy as np
from keras import ops


def update(ema, value, decay):
    """Returns an exponential moving average after one more value.

    ```
    ema = decay * ema + (1 - decay) * value
    ```

    Args:
        ema: Tensor.
        value: Tensor that broadcasts to `ema`.
        decay: Number in [0, 1), or tensor that broadcasts to `ema`.
    """
    return decay * ema + (1 - decay) * value


def update_many(emas, value, decays):
    """Returns EMAs `[len(decays), ...]` of a tensor after one more value."""
    decays = np.reshape(decays, (-1,) + (1,) * len(value.shape))
    return update(emas, value, ops.convert_to_tensor(decays, value.dtype))


class FactoredMoments:
    """EMAs of the squares of one tensor, factored as in Adafactor.

    A tensor with two or more axes keeps only the means of its squares along
    its largest axis (`row`) and along its second largest axis (`column`). Any
    other tensor keeps all squares (`full`).

    Args:
        shape: Tuple of ints, the shape of the tensor.
        decays: List of numbers in [0, 1), one for each EMA.

    Attributes:
        is_factored: Bool, whether the tensor has two or more axes.

    Reference:
        Shazeer and Stern, 2018 (arXiv 1804.04235).
    """

    def __init__(self, shape, decays):
        self._shape = tuple(shape)
        self._decays = decays
        self.is_factored = len(shape) >= 2
        if self.is_factored:
            # Counted from the end, since EMAs have an additional first axis.
            *_, second, first = np.argsort(shape, kind="stable")
            self._largest = int(first) - len(shape)
            self._second = int(second) - len(shape)

    def init_state(self):
        """Returns zeros: a dict of `row` and `column`, or of `full`."""
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
        """Returns the state after one more tensor of squares."""
        if not self.is_factored:
            return {"full": update_many(state["full"], squares, self._decays)}
        return {
            name: update_many(
                state[name], ops.mean(squares, axis=axis), self._decays
            )
            for name, axis in self._axes()
        }

    def where(self, mask, new, old):
        """Returns the new state, and the old one where all is masked out.

        A mean stays as it was if all elements that it averages are masked.

        Args:
            mask: Bool tensor that broadcasts to the tensor's shape.
            new, old: States as from `init_state`.
        """
        mask = ops.broadcast_to(mask, self._shape)
        if not self.is_factored:
            return {"full": ops.where(mask, new["full"], old["full"])}
        return {
            name: ops.where(ops.any(mask, axis=axis), new[name], old[name])
            for name, axis in self._axes()
        }

    def expanded(self, state):
        """Returns `(row, column)` that broadcast to `[emas, *shape]`."""
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
        """Returns factors that normalize a gradient.

        ```
        rsqrt(row / (mean of row + 1e-9)) * rsqrt(column)
        rsqrt(full + 1e-9)                             if not factored
        ```

        where `rsqrt(x) = 1 / sqrt(max(x, 1e-9))`. They broadcast to
        `[emas, *shape]`.
        """
        if not self.is_factored:
            return _rsqrt(state["full"] + 1e-9)
        row, column = self.expanded(state)
        mean = ops.mean(row, axis=self._second, keepdims=True)
        return _rsqrt(row / (mean + 1e-9)) * _rsqrt(column)


def _rsqrt(x):
    return ops.rsqrt(ops.maximum(x, 1e-9))
