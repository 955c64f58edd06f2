"""Celo2: a learned direction for matrices, and AdamW for all else."""

import copy
import math

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import celo
from keras_l2l.rules import ema
from keras_l2l.rules import moments
from keras_l2l.rules import partition
from keras_l2l.rules import tensorwise
from keras_l2l.utils import checks

# Searched for in the path, of which the last part is the variable's own name.
_EMBEDDINGS = "embedding[^/]*$"
_ADAM_FACTOR, _BETA_1, _BETA_2 = 20, 0.9, 0.95
# Newton-Schulz iterations, and the coefficients of their polynomial.
_ITERATIONS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315
# A square root has no derivative at 0.
_TINY = 1e-30


@keras.saving.register_keras_serializable(package="keras_l2l")
class Celo2(partition.Partition):
    """A small network for each element of a matrix, and AdamW for all else.

    ```
    features = gradient, parameter, EMAs of gradients and of their squares,
        also factored; each divided by its root mean square over a matrix
    direction = orthogonalize(network(features))
    direction = direction / root mean square of direction over a matrix
    update = -rate * (direction + matrix_decay * parameter)
    ```

    The last two axes of a tensor are those of a matrix. Variables with fewer
    axes, and embeddings, are updated by Adam with betas 0.9 and 0.95 at 20
    times the rate and without weight decay. Embeddings are variables whose own
    name, the last part of their path, contains "embedding", as Keras names
    them.

    `rate` rises linearly to `peak_rate` and decays to 0 by a cosine. A
    learning rate of 1.0 of the optimizer means these rates. The state has four
    floats per element and means along two axes, or two per element of what
    Adam updates.

    Args:
        orthogonalize: Bool, whether five Newton-Schulz iterations make the
            direction of a matrix nearly orthogonal, as in Muon. Defaults to
            True; the authors call the other variant "base".
        peak_rate: Float >= 0. Defaults to 0.001, the rate of meta-training.
        matrix_decay: Float >= 0, decoupled weight decay of matrices. Defaults
            to 0.0.
        warmup: Float in [0, 1), part of the steps in which the rate rises.
            Defaults to 0.05.
        num_steps: Int >= 1, the length of the training in steps. `None` if it
            will be set by `for_num_steps`, which meta-training and
            `keras_l2l.TrainingLength` call.

    Raises:
        ValueError: if an argument is out of its range, or if a step lacks
            `num_steps`.

    Reference:
        arXiv 2602.19142; the network and its features: Metz et al., 2022
        (arXiv 2203.11860).
    """

    def __init__(
        self,
        orthogonalize: bool = True,
        peak_rate: float = 0.001,
        matrix_decay: float = 0.0,
        warmup: float = 0.05,
        num_steps: int | None = None,
    ) -> None:
        matrices = _Matrices(
            orthogonalize, matrix_decay, peak_rate, warmup, num_steps
        )
        adam = _Adam(_ADAM_FACTOR * peak_rate, warmup, num_steps)
        super().__init__(
            [(_EMBEDDINGS, adam), (_is_vector, adam)], default=matrices
        )

    @property
    def num_steps(self) -> int | None:
        """The length of the training in steps, or `None`."""
        return self.default.num_steps

    def given_rules(self):
        names = ("embeddings", "vectors", "matrices")
        return dict(zip(names, super().given_rules().values(), strict=True))

    def get_config(self):
        return self.default.get_config()

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _is_vector(variable):
    return len(variable.shape) < 2


class _Scheduled(base.UpdateRule):
    """Rule with a rate that rises linearly, and decays to 0 by a cosine."""

    def __init__(self, peak_rate, warmup, num_steps):
        self.peak_rate = checks.require_number("peak_rate", peak_rate)
        self.warmup = checks.require_number("warmup", warmup, 1)
        if num_steps is not None:
            num_steps = checks.require_int("num_steps", num_steps)
        self.num_steps = num_steps

    def for_num_steps(self, num_steps, steps_per_epoch=None):
        if self.num_steps is not None:
            return self
        told = copy.copy(self)
        told.num_steps = checks.require_int("num_steps", num_steps)
        return told

    def rate(self, iteration, dtype):
        """Returns the rate of a step, a scalar tensor."""
        num_steps = celo.known_length("Celo2", self.num_steps)
        start = self.warmup * num_steps
        t = ops.cast(iteration, dtype)
        rise = ops.minimum((t + 1) / max(start, 1), 1)
        over = ops.clip((t - start) / (num_steps - start), 0, 1)
        return self.peak_rate * rise * (1 + ops.cos(math.pi * over)) / 2


class _Adam(_Scheduled, base.CoordinatewiseRule):
    """Adam as PyTorch has it: epsilon is added after bias correction."""

    rests_without_gradient = True

    def init_meta_params(self, seed):
        return {}

    def init_coordinate_state(self, n):
        return {
            "m": ops.zeros((n,), dtype="float32"),
            "v": ops.zeros((n,), dtype="float32"),
        }

    def coordinate_step(self, meta_params, gradient, state, iteration):
        m = ema.update(state["m"], gradient, _BETA_1)
        v = ema.update(state["v"], ops.square(gradient), _BETA_2)
        t = ops.cast(iteration, gradient.dtype) + 1
        # `expm1` is precise where the decay is close to 1.
        m_hat = m / -ops.expm1(math.log(_BETA_1) * t)
        v_hat = v / -ops.expm1(math.log(_BETA_2) * t)
        direction = m_hat / (ops.sqrt(ops.maximum(v_hat, _TINY)) + 1e-8)
        rate = self.rate(iteration, gradient.dtype)
        return -rate * direction, {"m": m, "v": v}


class _Matrices(_Scheduled, tensorwise.TensorwiseRule):
    """The network, for tensors with two or more axes."""

    def __init__(
        self, orthogonalize, matrix_decay, peak_rate, warmup, num_steps
    ):
        super().__init__(peak_rate, warmup, num_steps)
        self.orthogonalize = checks.require_bool("orthogonalize", orthogonalize)
        self.matrix_decay = checks.require_number("matrix_decay", matrix_decay)

    def init_meta_params(self, seed):
        return moments.init_network(seed, units=8, outputs=1)

    def init_tensor_state(self, shape):
        return moments.init_state(shape)

    def where(self, mask, new, old):
        return moments.where(mask, new, old)

    def step(self, meta_params, inputs, state):
        rate = self.rate(inputs.iteration, inputs.gradients[0].dtype)
        return self.step_tensors(meta_params, inputs, state, rate)

    def tensor_step(self, meta_params, gradient, param, state, shared):
        state = moments.update(state, gradient, decay=_BETA_2)
        features = moments.features(gradient, param, state, epsilon=1e-8)
        (direction,) = moments.network(
            meta_params, features, axes=2, epsilon=1e-9
        )
        if self.orthogonalize:
            direction = _orthogonalized(direction)
        squares = ops.mean(ops.square(direction), axis=(-2, -1), keepdims=True)
        direction = direction * ops.rsqrt(1e-9 + squares)
        return -shared * (direction + self.matrix_decay * param), state

    def get_config(self):
        names = ("orthogonalize", "peak_rate", "matrix_decay", "warmup")
        return {name: getattr(self, name) for name in (*names, "num_steps")}


def _orthogonalized(matrices):
    """Moves the singular values of matrices `[..., m, n]` close to 1.

    Reference:
        Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural
        networks".
    """
    rows, columns = matrices.shape[-2:]
    if rows > columns:
        return ops.swapaxes(
            _orthogonalized(ops.swapaxes(matrices, -2, -1)), -2, -1
        )
    squares = ops.sum(ops.square(matrices), axis=(-2, -1), keepdims=True)
    x = matrices / (ops.sqrt(ops.maximum(squares, _TINY)) + 1e-8)
    for _ in range(_ITERATIONS):
        product = ops.matmul(x, ops.swapaxes(x, -2, -1))
        polynomial = _B * product + _C * ops.matmul(product, product)
        x = _A * x + ops.matmul(polynomial, x)
    return x
