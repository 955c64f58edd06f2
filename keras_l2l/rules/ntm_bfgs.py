"""`NTMBFGS`: the paper's LSTM with a matrix as external memory."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_l2l.rules import global_averaging_lstm
from keras_l2l.rules import vectors
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class NTMBFGS(global_averaging_lstm.GlobalAveragingLSTM):
    """LSTM that reads and writes a matrix with an entry per coordinate pair.

    ```
    query, left[k], right[k] = stack(features(gradient), read)
    read = memory @ query
    update = output_scale * read
    memory = memory + sum(outer(left[k], right[k])) / n
    ```

    The stack of LSTMs with global averaging cells gives, for each coordinate,
    one number of the query and two for each write head. As in BFGS, the memory
    starts as the identity, changes by matrices of low rank, and its product
    with the query gives the update. The stack sees `read` at the next step.

    The memory has n x n elements for n parameters, so this is for small models
    only.

    The paper draws the architecture. It leaves open the initial memory, the
    factor 1 / n, and how `read` becomes the update.

    Args:
        write_heads: Int, the rank of each change of the memory. Defaults to 3.
        averaged, units, preprocessing, p, output_scale: As for
            `GlobalAveragingLSTM`.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), appendix B.
    """

    # Small changes add up in the memory.
    rounds_state = False

    def __init__(
        self,
        write_heads: int = 3,
        averaged: int = 5,
        units: Sequence[int] = (20, 20),
        preprocessing: str | None = "log_and_sign",
        p: float = 10.0,
        output_scale: float = 0.1,
    ) -> None:
        super().__init__(averaged, units, preprocessing, p, output_scale)
        self.write_heads = checks.require_int("write_heads", write_heads)

    def init_meta_params(self, seed):
        return self.init_stack(
            self.features_per_gradient + 1, 1 + 2 * self.write_heads, seed
        )

    def init_vector_state(self, n):
        return {
            "controller": self.init_stack_state(n),
            "read": ops.zeros((n,), dtype="float32"),
            "memory": ops.eye(n, dtype="float32"),
        }

    def vector_step(self, meta_params, gradient, state, iteration, mask):
        features = self.features(ops.expand_dims(gradient, 0))
        features = ops.concatenate(
            [features, ops.expand_dims(state["read"], 0)]
        )
        outputs, controller = self.apply_averaging(
            meta_params, features, state["controller"], mask
        )
        # A masked coordinate neither queries nor writes.
        outputs = vectors.where(mask, outputs, ops.zeros_like(outputs))
        query = outputs[0]
        left, right = ops.split(outputs[1:], 2)
        read = ops.matmul(state["memory"], query)
        written = ops.matmul(ops.transpose(left), right)
        return self.output_scale * read, {
            "controller": controller,
            "read": vectors.where(mask, read, state["read"]),
            "memory": state["memory"] + written / gradient.shape[0],
        }

    def get_config(self):
        return {"write_heads": self.write_heads, **super().get_config()}
