"""`KernelLSTM`: one LSTM for each convolution filter."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import lstm_stack
from keras_l2l.rules import vectors
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class KernelLSTM(lstm_stack.GradientLSTMStack, base.UpdateRule):
    """A stack of LSTMs, applied to each two-dimensional filter as a whole.

    ```
    features = log_and_sign(gradient, p)      of all k elements of a filter
    hidden, cell = lstm_step(features, (hidden, cell))      for each layer
    update = output_scale * (kernel.T @ hidden + bias)      k elements
    ```

    A convolution kernel `[3, 3, 8, 16]` has 128 filters of k = 9 elements.
    Each filter has one state, so the state is k times smaller than that of
    `CoordinatewiseLSTM`.

    Args:
        kernel_shape: Tuple of ints >= 1. The shape of every variable must begin
            with it. Defaults to `(3, 3)`. `()` gives `CoordinatewiseLSTM`.
        units, preprocessing, p, output_scale: As for `CoordinatewiseLSTM`.

    Raises:
        ValueError: if an argument is out of its range, or, at first use, a
            variable has another shape.

    Example:
    >>> rule = keras_l2l.rules.Partition(
    ...     [("conv.*kernel", keras_l2l.rules.KernelLSTM((3, 3)))],
    ...     default=keras_l2l.CoordinatewiseLSTM(),
    ... )

    Reference:
        The code of Andrychowicz et al., 2016
        (github.com/google-deepmind/learning-to-learn), `KernelDeepLSTM`.
    """

    uses_params = False
    rounds_state = True

    def __init__(
        self,
        kernel_shape: Sequence[int] = (3, 3),
        units: Sequence[int] = (20, 20),
        preprocessing: str | None = "log_and_sign",
        p: float = 10.0,
        output_scale: float = 0.1,
    ) -> None:
        super().__init__(units, preprocessing, p, output_scale)
        if not isinstance(kernel_shape, (tuple, list)):
            raise ValueError(
                "`kernel_shape` must be a tuple of ints, as (3, 3). Received: "
                f"kernel_shape={kernel_shape!r}"
            )
        self.kernel_shape = tuple(
            checks.require_int("kernel_shape", n) for n in kernel_shape
        )

    @property
    def _size(self):
        return math.prod(self.kernel_shape)

    def init_meta_params(self, seed):
        inputs = self._size * self.features_per_gradient
        return self.init_stack(inputs, self._size, seed)

    def init_state(self, shapes):
        rank = len(self.kernel_shape)
        for shape in shapes:
            if tuple(shape[:rank]) != self.kernel_shape:
                raise ValueError(
                    "The shapes of all variables must begin with the "
                    f"`kernel_shape` of their KernelLSTM, {self.kernel_shape}. "
                    f"Received: a variable of shape {tuple(shape)}. Choose "
                    "the convolution kernels of that shape by a "
                    "keras_l2l.rules.Partition."
                )
        return self.init_stack_state(
            sum(math.prod(shape) for shape in shapes) // self._size
        )

    def step(self, meta_params, inputs, state):
        def run(gradient, mask):
            zeros = ops.zeros_like(gradient)
            # A NaN must not enter the rule: it spreads by 0 * NaN.
            features = self.features(vectors.where(mask, gradient, zeros))
            update, new_state = self.apply_stack(meta_params, features, state)
            update = vectors.where(mask, self.output_scale * update, zeros)
            if mask is not None:
                # The state of a filter stays if all of it is masked.
                some = ops.any(mask, axis=0)
                new_state = vectors.where(some, new_state, state)
            return update, new_state

        # Filters are columns.
        return vectors.on_vectors(inputs, run, (self._size,))

    def get_config(self):
        return {"kernel_shape": list(self.kernel_shape), **super().get_config()}
