"""`MomentumMixture`: normalized momenta with a learned rate and schedule."""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import blockwise
from keras_l2l.utils import checks

# What a rule is told of a tensor; see `_signals`.
SIGNALS = (
    "one",
    "length",
    "unknown_length",
    "steps",
    "progress",
    "epochs",
    "unknown_epochs",
    "per_epoch",
    "agreement_fast",
    "agreement_slow",
    "scale",
    "growth",
    "vector",
    "inputs",
    "outputs",
    "moving",
    "active",
    "fall",
    "capacity",
    "unknown_fall",
)


# What the signals decide: the value before meta-training, and how far signals
# may move it (`None` for any distance).
_CONTROLS = {
    "rate": (math.log(0.0015), 2.0),
    "decay": (math.log(0.03), 3.0),
    "slow": (0.3, None),
}
# What is the same for all tensors.
_CONSTANTS = {
    "gradient": 0.2,
    "limit": math.log(3.0),
    "damping": math.log(0.03),
    "caution": 0.0,
    "scale_power": 0.3,
}
# Gradients are sparse if, of the coordinates that have had one, fewer have one
# in a step.
_SPARSE = 0.5
# The slow momentum of a row that is seldom read is of its last gradients: with
# less of it, the row hardly follows what they have in common.
_LEAST_SLOW = 0.6
_DECAYS = {"fast": 0.9, "slow": 0.98, "square": 0.99}
# Of the share of coordinates that have a gradient.
_ACTIVE_DECAY = 0.99
# What the state has for each tensor.
_OF_TENSORS = ("scale", "active", "peak")
_SMALLEST_SCALE = 0.01
# A sample in which few coordinates have had a gradient says little of others.
# It is completed to so many, as if those had just had their first.
_FEWEST = 512
# Far below all squares of gradients that are worth a step.
_TINY = 1e-37
# Squares of larger gradients, and what is made of them, could overflow.
_LARGEST = 1e15


@keras.saving.register_keras_serializable(package="keras_l2l")
class MomentumMixture(blockwise.BlockwiseRule):
    """Mixes normalized momenta; learns how, how far, and when to get smaller.

    ```
    fast, slow, square = EMAs of gradients and of their squares
    direction = (fast / rms(fast / root) + slow_weight * slow / rms(slow / root)
                 + gradient_weight * gradient) / (root + damping * rms(root))
        where root = sqrt(square)
    direction = direction / sqrt(1 + (direction / limit) ** 2)
    direction = (1 - caution) * direction, where the gradient has another sign
    size = rate * schedule * (10 * scale) ** scale_power
    update = -size * (direction / rms(direction) + decay * parameter)
    ```

    `rms` is the root mean square over the coordinates of a tensor that have had
    a gradient, in a large tensor over those of a sample. Where fewer than 512
    of the sample have had one, as in a large embedding, others count that have
    just had their first. `slow_weight`, `rate` and `decay` are, for each
    tensor, a linear function of its signals or the exponential of a bounded
    one; `slow_weight` is at least 0.6 where gradients are sparse, as those of
    an embedding.
    Signals are the length of the training in steps and in epochs, the steps of
    an epoch, what is over of the training; how much gradients agree with each
    other, which is the RMS of normalized momenta; the tensor's scale at the
    first step, its growth since, its shape; the share of its coordinates that
    have had a gradient, and of these the share that has one in a step; how far
    gradients have fallen from their peak, as they do where a network has
    learned its examples by heart, once for all trainings and once for those of
    unknown length; and the number of parameters for each step of an epoch, if
    it is small. For a known length, `schedule` is a warmup and a power of a
    cosine that ends at 0; of unknown length, a slow decay.
    Tensors with fewer than two axes have no weight decay, and a size that does
    not depend on their scale.

    In the shipped meta-parameters, `decay` is large where an epoch has few
    steps and gradients hardly agree, as where a network has learned its
    examples by heart. It gets smaller as gradients agree, as they do where it
    keeps a network from learning: it limits itself. It is close to 0 for a
    network that is too small to learn its examples by heart. Where the length
    is unknown, `rate` falls with the gradients.

    All numbers are meta-parameters, also the decays of the EMAs. The state has
    three floats per coordinate and three per tensor.

    Args:
        num_steps: Int >= 1, the length of the training in steps. `None` if it
            is not known, or will be set by `for_num_steps`, which
            `keras_l2l.TrainingLength` calls. In meta-training, the length is
            that of the episode.
        steps_per_epoch: Float > 0, the steps in which every example is seen
            once, likewise. It counts only where `num_steps` is known.

    Raises:
        ValueError: if an argument is none of these.

    Reference:
        Normalized directions with weight decay and a schedule from outside:
        Celo2 (arXiv 2602.19142). Steps that grow with the scale: LAMB
        (arXiv 1904.00962). Caution: arXiv 2411.16085. Two momenta: AdEMAMix
        (arXiv 2409.03137). Weight decay that gets smaller with the steps of an
        epoch: arXiv 2405.13698.
    """

    rests_without_gradient = True

    def __init__(
        self,
        num_steps: int | None = None,
        steps_per_epoch: float | None = None,
    ) -> None:
        if num_steps is not None:
            num_steps = checks.require_int("num_steps", num_steps)
        if steps_per_epoch is not None:
            steps_per_epoch = float(
                checks.require_positive("steps_per_epoch", steps_per_epoch)
            )
        self.num_steps, self.steps_per_epoch = num_steps, steps_per_epoch

    def get_config(self):
        return {
            "num_steps": self.num_steps,
            "steps_per_epoch": self.steps_per_epoch,
        }

    def for_num_steps(self, num_steps, steps_per_epoch=None):
        if self.num_steps:
            return self
        return type(self)(num_steps, self.steps_per_epoch or steps_per_epoch)

    def remarks(self, state, steps):
        if self.num_steps:
            if steps <= self.num_steps:
                return []
            return [
                f"The training was planned for {self.num_steps} steps, which "
                "are over: further steps hardly change anything. To continue, "
                "use fit(..., callbacks=[keras_l2l.TrainingLength()]), or "
                "compile with a new LearnedOptimizer where num_steps was given "
                "to this one."
            ]
        return [
            "The optimizer was not told how long the training is, so its last "
            "steps were not small. To end with a lower loss, train with "
            "fit(..., callbacks=[keras_l2l.TrainingLength()]), or pass "
            "num_steps to LearnedOptimizer."
        ]

    def init_meta_params(self, seed):
        controls = {}
        for name, (value, _) in _CONTROLS.items():
            weights = np.zeros(len(SIGNALS), "float32")
            weights[0] = value
            controls[name] = weights
        # Adam is normalized by second moments alone; this is half way there.
        controls["rate"][SIGNALS.index("agreement_fast")] = 0.5
        # With second moments of a long memory, Adam's steps get smaller, too.
        controls["rate"][SIGNALS.index("fall")] = 0.5
        # Examples that are seen often are learned by heart.
        controls["rate"][SIGNALS.index("epochs")] = -0.5
        controls["rate"][SIGNALS.index("unknown_epochs")] = -0.5
        values = {
            "controls": controls,
            "decays": {
                name: -math.log1p(-decay) for name, decay in _DECAYS.items()
            },
            "constants": _CONSTANTS,
            "schedule": {
                "warmup": math.log(0.05),
                "power": 1.0,
                "unknown_steps": math.log(400.0),
                "unknown_power": 0.3,
            },
        }
        return keras.tree.map_structure(
            lambda v: ops.convert_to_tensor(v, "float32"), values
        )

    def init_block_state(self, shape, tensors):
        zeros = {name: ops.zeros(shape, dtype="float32") for name in _DECAYS}
        # 0 until the first step.
        of_tensors = {
            name: ops.zeros((tensors,), dtype="float32") for name in _OF_TENSORS
        }
        return {**zeros, **of_tensors}

    def block_step(self, meta_params, gradient, param, state, blocks, inputs):
        t = ops.cast(inputs.iteration, gradient.dtype) + 1
        gradient = ops.clip(gradient, -_LARGEST, _LARGEST)
        emas, unbias = _averages(meta_params["decays"], gradient, state, t)
        root = ops.sqrt(unbias["square"] * emas["square"] + _TINY)
        moves = emas["square"] > 0
        measured, of_tensors = _measure(
            blocks, gradient, param, state, moves, emas, unbias, root, t
        )
        steps, per_epoch = self._length(inputs, gradient.dtype)
        constants = meta_params["constants"]
        is_matrix = ops.convert_to_tensor(blocks.axes) > 1

        @functools.cache
        def told():
            signals = _signals(blocks, t, steps, per_epoch, measured)
            return _controls(meta_params["controls"], signals)

        @functools.cache
        def slow_weight():
            slow = told()["slow"]
            is_sparse = measured["active"] < _SPARSE * measured["moving"]
            return ops.where(is_sparse, ops.maximum(slow, _LEAST_SLOW), slow)

        direction = _direction(
            *(constants, slow_weight, blocks),
            *(gradient, emas, unbias, root, measured),
        )

        @functools.cache
        def size():
            factor = _factor(meta_params["schedule"], t, steps)
            relative = ops.exp(
                constants["scale_power"] * ops.log(10 * measured["scale"])
            )
            return factor * told()["rate"] * ops.where(is_matrix, relative, 1.0)

        def normalized_size():
            (square,) = blocks.means(lambda: ops.square(direction))
            missing = ops.square(
                _first_direction(constants, slow_weight(), measured)
            )
            square = _completed(square, missing, measured)
            return -size() * ops.rsqrt(square + 1e-12)

        def decay():
            return ops.where(is_matrix, -size() * told()["decay"], 0.0)

        update = blocks.spread(normalized_size) * direction + ops.where(
            moves, blocks.spread(decay) * param, 0.0
        )
        return update, {**emas, **of_tensors}

    def _length(self, inputs, dtype):
        """Returns `num_steps` and `steps_per_epoch`, 0 where not known."""
        found = []
        for name in ("num_steps", "steps_per_epoch"):
            value = getattr(inputs, name)
            value = getattr(self, name) or 0 if value is None else value
            found.append(ops.cast(value, dtype))
        return found


def _averages(decays, gradient, state, t):
    """Returns the EMAs after one more gradient, and factors without bias."""
    values = {
        "fast": gradient,
        "slow": gradient,
        "square": ops.square(gradient),
    }
    # All decays are 1 - exp(-x), in a vector: fewer operations.
    complements = ops.exp(-ops.stack([decays[name] for name in values]))
    corrections = -ops.expm1(t * ops.log1p(-complements))
    factors = 1 / corrections
    is_first = state["square"] == 0
    emas = {}
    for (name, value), correction, complement in zip(
        values.items(),
        ops.unstack(corrections),
        ops.unstack(complements),
        strict=True,
    ):
        # The first gradient is its own average, whenever it comes, as that of
        # an embedding's row.
        weight = ops.where(is_first, correction, complement)
        emas[name] = state[name] + weight * (value - state[name])
    return emas, dict(zip(values, ops.unstack(factors), strict=True))


def _measure(blocks, gradient, param, state, moves, emas, unbias, root, t):
    """Returns what is known of each tensor, and its parts of the next state."""
    dtype = gradient.dtype

    def normalized(name):
        return ops.where(moves, ops.square(emas[name] / root), 0.0)

    moving, square, active, rms, fast, slow = blocks.means(
        lambda: ops.cast(moves, dtype),
        lambda: emas["square"],
        lambda: ops.cast(gradient != 0, dtype),
        # Squares of others, or NaN, would reach all that are joined.
        lambda: ops.square(ops.where(ops.abs(param) <= _LARGEST, param, 0.0)),
        lambda: normalized("fast"),
        lambda: normalized("slow"),
    )
    sampled = ops.convert_to_tensor(blocks.sampled, dtype)
    missing = ops.maximum(_FEWEST / sampled - moving, 0.0)
    moving = moving + 1e-6
    square = unbias["square"] * square
    active = state["active"] + (1 - _ACTIVE_DECAY) * (active - state["active"])
    rms = ops.sqrt(rms + _SMALLEST_SCALE**2)
    scale = ops.where(state["scale"] > 0, state["scale"], rms)
    peak = ops.maximum(state["peak"], square / moving)
    measured = {
        "moving": moving,
        "square": square,
        "active": active / (1 - ops.power(_ACTIVE_DECAY, t)),
        # Of logarithms: the derivative is 0 where the peak is here.
        "fall": ops.log(square / moving + _TINY) - ops.log(peak + _TINY),
        "rms": rms,
        "scale": scale,
        "missing": missing,
    }
    for name, value in (("fast", fast), ("slow", slow)):
        of_known = ops.square(unbias[name]) * value
        measured[name] = _completed(of_known, 1.0, measured)
    return measured, {"scale": scale, "active": active, "peak": peak}


def _completed(mean, of_missing, measured):
    """Returns the mean over coordinates that have had a gradient.

    Args:
        mean: Tensor `[tensors]`, the mean over all coordinates that are known.
        of_missing: Tensor or number, the value of those that are missing.
        measured: As from `_measure`.
    """
    missing = measured["missing"]
    return (mean + missing * of_missing) / (measured["moving"] + missing)


def _first_direction(constants, slow_weight, measured):
    """Returns the direction of a coordinate whose gradient is its first.

    Of each tensor, without damping: a tensor `[tensors]`.
    """
    mixture = constants["gradient"] + sum(
        weight * ops.rsqrt(measured[name] + 1e-12)
        for name, weight in (("fast", 1.0), ("slow", slow_weight))
    )
    limit = ops.exp(-constants["limit"])
    return mixture * ops.rsqrt(1 + ops.square(mixture * limit))


def _direction(
    constants, slow_weight, blocks, gradient, emas, unbias, root, measured
):
    """Returns the mixture of normalized momenta, limited."""
    damping = blocks.spread(
        lambda: (
            ops.exp(constants["damping"]) * ops.sqrt(measured["square"] + _TINY)
        )
    )

    # Of tensors first: a product with all elements is a pass on PyTorch.
    def weight(name):
        return unbias[name] * ops.rsqrt(measured[name] + 1e-12)

    fast = blocks.spread(lambda: weight("fast"))
    slow = blocks.spread(lambda: slow_weight() * weight("slow"))
    mixture = (
        fast * emas["fast"]
        + slow * emas["slow"]
        + constants["gradient"] * gradient
    )
    # The limit of `mixture / root`, in one division: XLA stores the result
    # of one that is used twice.
    direction = mixture * ops.rsqrt(
        ops.square(root + damping)
        + ops.square(mixture * ops.exp(-constants["limit"]))
    )
    caution = ops.clip(constants["caution"], -1.0, 1.0)
    return ops.where(mixture * gradient < 0, 1 - caution, 1.0) * direction


def _controls(weights, signals):
    """Returns a dict of what signals say, tensors `[tensors]`."""
    told = {}
    # One product: XLA compiles each by itself.
    values = ops.matmul(ops.stack([weights[n] for n in _CONTROLS]), signals)
    for (name, (_, reach)), value in zip(
        _CONTROLS.items(), ops.unstack(values), strict=True
    ):
        if reach is not None:
            center = weights[name][0]
            value = center + reach * ops.tanh((value - center) / reach)
            value = ops.exp(value)
        told[name] = value
    return told


def _signals(blocks, t, steps, per_epoch, measured):
    """Returns the signals `[signals, tensors]`, each of a size near 1."""
    scale, moving = measured["scale"], measured["moving"]
    ones = ops.ones_like(scale)
    is_matrix = ops.convert_to_tensor(blocks.axes) > 1
    longest = ops.maximum(steps, 1.0)
    length = ops.log(longest / 500) / 1.5
    is_known = ops.where(steps > 0, ones, 0.0)
    epochs_known = ops.where(per_epoch > 0, is_known, 0.0)
    per_epoch = ops.maximum(per_epoch, 1e-3)
    rows = {
        "one": ones,
        "length": is_known * length,
        "unknown_length": 1 - is_known,
        "steps": ones * ops.log(t / 100) / 3,
        "progress": is_known * (ops.minimum(t / longest, 1.0) - 0.5),
        # The square: few epochs do not matter, and many the more.
        "epochs": epochs_known * ops.square(ops.log1p(longest / per_epoch) / 3),
        "unknown_epochs": 1 - epochs_known,
        "per_epoch": epochs_known * ops.log1p(per_epoch / 40),
        "agreement_fast": 0.5 * ops.log(measured["fast"] + 1e-8) + 1,
        "agreement_slow": 0.5 * ops.log(measured["slow"] + 1e-8) + 1.5,
        "scale": ops.log(scale) + 2,
        "growth": ops.log(measured["rms"] / scale),
        "vector": ops.cast(ops.logical_not(is_matrix), scale.dtype),
        "inputs": _log_size(blocks.inputs, is_matrix),
        "outputs": _log_size(blocks.outputs, is_matrix),
        "moving": 0.5 * ops.log(moving),
        "active": 0.5 * ops.log(measured["active"] / moving + 1e-6),
        "fall": 0.5 * measured["fall"],
        # Only where parameters are few: of many, nothing follows.
        "capacity": epochs_known
        * ops.minimum(ops.log(blocks.model_size / per_epoch) - 5.5, 0.0)
        / 2,
        "unknown_fall": (1 - is_known) * 0.5 * measured["fall"],
    }
    return ops.stack([rows[name] for name in SIGNALS])


def _log_size(size, is_matrix):
    """Returns logarithms of numbers of elements; of vectors, that of 1."""
    size = ops.where(is_matrix, ops.maximum(size, 1.0), 1.0)
    return (ops.log(size) - 3) / 2


def _factor(schedule, t, steps):
    """Returns the schedule's factor, a scalar tensor."""
    length = ops.maximum(steps, 1.0)
    warmup = ops.minimum(1.0, t / (ops.exp(schedule["warmup"]) * length + 1))
    progress = ops.clip((t - 1) / length, 0.0, 1.0)
    cosine = 0.5 * (1 + ops.cos(math.pi * progress)) + 1e-6
    known = warmup * ops.exp(schedule["power"] * ops.log(cosine))
    unknown = ops.minimum(1.0, t / 20) * ops.exp(
        -schedule["unknown_power"]
        * ops.log1p(t * ops.exp(-schedule["unknown_steps"]))
    )
    return ops.where(steps > 0, known, unknown)
