"""`MomentumMixture`: normalized momenta with a learned rate and schedule."""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import blockwise
from keras_l2l.utils import backends
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
# Makes 1 or more of squares that are worth a step.
_HUGE = 1e38


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
        gradient = backends.clip(gradient, -_LARGEST, _LARGEST)
        constants = meta_params["constants"]
        exponentials, corrections = _common(meta_params, t, blocks)
        emas, unbias = _averages(exponentials, corrections, gradient, state)
        root = ops.sqrt(unbias["square"] * emas["square"] + _TINY)
        moves = _is_positive(emas["square"])
        tensors = _Tensors(
            *(meta_params, exponentials, unbias, blocks, t),
            *self._length(inputs, gradient.dtype),
            lambda: _measure(
                blocks, gradient, param, state, moves, emas, unbias, root, t
            ),
        )
        of_tensors = blocks.once(
            lambda: {name: tensors.measured[name] for name in _OF_TENSORS}
        )
        mixture = (
            blocks.spread(tensors.fast) * emas["fast"]
            + blocks.spread(tensors.slow) * emas["slow"]
            + constants["gradient"] * gradient
        )
        # In one division: XLA stores the result of one that is used twice.
        direction = mixture * ops.rsqrt(
            ops.square(root + blocks.spread(tensors.damping))
            + ops.square(mixture * exponentials["limit"])
        )
        caution = ops.clip(constants["caution"], -1.0, 1.0)
        against = _is_positive(mixture * gradient, sign=-1)
        direction = (1 - caution * against) * direction
        size = blocks.spread(lambda: tensors.normalized_size(direction))
        # Times 0, these would be NaN.
        param = ops.nan_to_num(param, nan=0.0, posinf=0.0, neginf=0.0)
        decay = blocks.spread(tensors.decay) * param * moves
        return size * direction + decay, {**emas, **of_tensors}

    def _length(self, inputs, dtype):
        """Returns `num_steps` and `steps_per_epoch`, 0 where not known."""
        found = []
        for name in ("num_steps", "steps_per_epoch"):
            value = getattr(inputs, name)
            value = getattr(self, name) or 0 if value is None else value
            found.append(ops.cast(value, dtype))
        return found


def _common(meta_params, t, blocks):
    """Returns what is the same for all tensors.

    Returns:
        Tuple of the exponentials of meta-parameters that are logarithms, a dict
        of scalars, and of what makes EMAs unbiased, a tensor `[3]`.
    """
    constants, schedule = meta_params["constants"], meta_params["schedule"]
    values = {
        **{name: -meta_params["decays"][name] for name in _DECAYS},
        "limit": -constants["limit"],
        "damping": constants["damping"],
        "warmup": schedule["warmup"],
        "unknown_steps": -schedule["unknown_steps"],
    }

    def computed():
        # In one array: XLA takes 4 ms to compile each exponential by itself.
        found = ops.exp(ops.stack(list(values.values())))
        complements = found[: len(_DECAYS)]
        corrections = 1 - ops.power(1 - complements, t)
        # It is that at least, also where 1 - complement is rounded to 1.
        return found, ops.maximum(corrections, complements)

    found, corrections = blocks.once(computed)
    return dict(zip(values, ops.unstack(found), strict=True)), corrections


def _averages(exponentials, corrections, gradient, state):
    """Returns the EMAs after one more gradient, and factors without bias."""
    values = {
        "fast": gradient,
        "slow": gradient,
        "square": ops.square(gradient),
    }
    factors = 1 / corrections
    is_later = _is_positive(state["square"])
    emas = {}
    for name, correction in zip(_DECAYS, ops.unstack(corrections), strict=True):
        # The first gradient is its own average, whenever it comes, as that of
        # an embedding's row.
        weight = correction + (exponentials[name] - correction) * is_later
        emas[name] = backends.lerp(state[name], values[name], weight)
    return emas, dict(zip(_DECAYS, ops.unstack(factors), strict=True))


def _is_positive(values, sign=1):
    """Returns 1.0 where `sign * values` is positive, and 0.0 elsewhere.

    Less than 1 where it is below 1e-38. PyTorch compares numbers one by one,
    and chooses by the results one by one: each takes as long as ten additions.
    """
    # Its derivative would be infinite.
    ones = backends.clip(values * (sign * _HUGE), 0.0, 1.0)
    return ops.stop_gradient(ones)


def _measure(blocks, gradient, param, state, moves, emas, unbias, root, t):
    """Returns what is known of each tensor, also its parts of the next state.

    `of_fast` and `of_slow` are factors to an RMS of 1.
    """
    dtype = gradient.dtype

    def normalized(name):
        return ops.square(emas[name] / root)

    # Squares of others, or NaN, would reach all that are joined.
    is_small = ops.square(param) <= _LARGEST**2
    moving, square, active, rms, fast, slow = blocks.means(
        moves,
        emas["square"],
        _is_positive(ops.square(gradient)),
        ops.square(ops.where(is_small, param, 0.0)),
        normalized("fast"),
        normalized("slow"),
    )
    sampled = ops.convert_to_tensor(blocks.sampled, dtype)
    missing = ops.maximum(_FEWEST / sampled - moving, 0.0)
    moving = moving + 1e-6
    square = unbias["square"] * square
    active = state["active"] + (1 - _ACTIVE_DECAY) * (active - state["active"])
    rms = ops.sqrt(rms + _SMALLEST_SCALE**2)
    peak = ops.maximum(state["peak"], square / moving)
    measured = {
        "moving": moving,
        "square": square,
        "active": active,
        "share": active / (1 - ops.power(_ACTIVE_DECAY, t)),
        "peak": peak,
        "rms": rms,
        "scale": ops.where(state["scale"] > 0, state["scale"], rms),
        "missing": missing,
    }
    for name, value in (("fast", fast), ("slow", slow)):
        of_known = ops.square(unbias[name]) * value
        measured[name] = _completed(of_known, 1.0, measured)
        measured[f"of_{name}"] = ops.rsqrt(measured[name] + 1e-12)
    return measured


def _completed(mean, of_missing, measured):
    """Returns the mean over coordinates that have had a gradient.

    Args:
        mean: Tensor `[tensors]`, the mean over all coordinates that are known.
        of_missing: Tensor or number, the value of those that are missing.
        measured: As from `_measure`.
    """
    missing = measured["missing"]
    return (mean + missing * of_missing) / (measured["moving"] + missing)


class _Tensors:
    """What a step knows of whole tensors, computed when it is asked for.

    All are tensors `[tensors]`.

    Args:
        meta_params: As of the rule.
        exponentials: Dict of scalars, as from `_common`.
        unbias: Dict of scalars, as from `_averages`.
        blocks: `Blocks`.
        t: Scalar, the number of this step, from 1.
        steps, per_epoch: Scalars, the length of the training and of an epoch.
        measure: Function without arguments, as `_measure`.
    """

    def __init__(
        self,
        meta_params,
        exponentials,
        unbias,
        blocks,
        t,
        steps,
        per_epoch,
        measure,
    ):
        self._meta_params, self._exponentials = meta_params, exponentials
        self._unbias, self._blocks = unbias, blocks
        self._t, self._steps, self._per_epoch = t, steps, per_epoch
        self._measure = measure
        self._is_matrix = ops.convert_to_tensor(blocks.axes) > 1

    @functools.cached_property
    def measured(self):
        return self._measure()

    @functools.cached_property
    def _told(self):
        signals = _signals(
            self._blocks, self._t, self._steps, self._per_epoch, self.measured
        )
        return _controls(self._meta_params["controls"], signals)

    @functools.cached_property
    def _slow_weight(self):
        slow, measured = self._told["slow"], self.measured
        is_sparse = measured["share"] < _SPARSE * measured["moving"]
        return ops.where(is_sparse, ops.maximum(slow, _LEAST_SLOW), slow)

    @functools.cached_property
    def _size(self):
        constants, scale = (
            self._meta_params["constants"],
            self.measured["scale"],
        )
        factor = _factor(
            *(self._meta_params["schedule"], self._exponentials),
            *(self._t, self._steps),
        )
        relative = ops.power(10 * scale, constants["scale_power"])
        relative = ops.where(self._is_matrix, relative, 1.0)
        return factor * self._told["rate"] * relative

    # Of tensors first: a product with all elements is a pass on PyTorch.
    def fast(self):
        """Returns the weight of the fast momentum."""
        return self._unbias["fast"] * self.measured["of_fast"]

    def slow(self):
        """Returns the weight of the slow momentum."""
        weight = self._unbias["slow"] * self.measured["of_slow"]
        return self._slow_weight * weight

    def damping(self):
        """Returns what is added to the root."""
        rms = ops.sqrt(self.measured["square"] + _TINY)
        return self._exponentials["damping"] * rms

    def normalized_size(self, direction):
        """Returns the factor of a direction, an array, in the update."""
        (square,) = self._blocks.means(ops.square(direction))
        # Of a coordinate whose gradient is its first, without damping.
        first = (
            self._meta_params["constants"]["gradient"]
            + self.measured["of_fast"]
            + self._slow_weight * self.measured["of_slow"]
        )
        limited = first * self._exponentials["limit"]
        first = ops.square(first) / (1 + ops.square(limited))
        square = _completed(square, first, self.measured)
        return -self._size * ops.rsqrt(square + 1e-12)

    def decay(self):
        """Returns the factor of the parameter in the update."""
        return ops.where(
            self._is_matrix, -self._size * self._told["decay"], 0.0
        )


def _controls(weights, signals):
    """Returns a dict of what signals say, tensors `[tensors]`."""
    weights = ops.stack([weights[name] for name in _CONTROLS])
    # One product, and one function of all: XLA compiles each by itself.
    values = ops.matmul(weights, signals)
    # Those with a reach come first.
    reaches = [r for _, r in _CONTROLS.values() if r is not None]
    number, reach = len(reaches), _column(reaches, values.dtype)
    center, bounded = weights[:number, :1], values[:number]
    bounded = center + reach * ops.tanh((bounded - center) / reach)
    found = [*ops.unstack(ops.exp(bounded)), *ops.unstack(values[number:])]
    return dict(zip(_CONTROLS, found, strict=True))


def _signals(blocks, t, steps, per_epoch, measured):
    """Returns the signals `[signals, tensors]`, each of a size near 1.

    Logarithms are in two arrays: XLA compiles each by itself.
    """
    scale, moving = measured["scale"], measured["moving"]
    is_matrix = ops.convert_to_tensor(blocks.axes) > 1
    longest = ops.maximum(steps, 1.0)
    is_known = ops.cast(steps > 0, scale.dtype)
    epochs_known = is_known * ops.cast(per_epoch > 0, scale.dtype)
    per_epoch = ops.maximum(per_epoch, 1e-3)
    arguments = [
        *(longest / 500, t / 100, 1 + longest / per_epoch),
        *(1 + per_epoch / 40, blocks.model_size / per_epoch),
    ]
    log_length, log_step, log_epochs, log_per_epoch, log_capacity = ops.unstack(
        ops.log(ops.stack(arguments))
    )
    of_training = {
        "one": ops.ones_like(t),
        "length": is_known * log_length / 1.5,
        "unknown_length": 1 - is_known,
        "steps": log_step / 3,
        "progress": is_known * (ops.minimum(t / longest, 1.0) - 0.5),
        # The square: few epochs do not matter, and many the more.
        "epochs": epochs_known * ops.square(log_epochs / 3),
        "unknown_epochs": 1 - epochs_known,
        "per_epoch": epochs_known * log_per_epoch,
        # Only where parameters are few: of many, nothing follows.
        "capacity": epochs_known * ops.minimum(log_capacity - 5.5, 0.0) / 2,
    }
    # Factor, argument of the logarithm, and summand.
    logarithms = {
        "agreement_fast": (0.5, measured["fast"] + 1e-8, 1.0),
        "agreement_slow": (0.5, measured["slow"] + 1e-8, 1.5),
        "scale": (1.0, scale, 2.0),
        "growth": (1.0, measured["rms"] / scale, 0.0),
        "inputs": (0.5, _elements(blocks.inputs, is_matrix), -1.5),
        "outputs": (0.5, _elements(blocks.outputs, is_matrix), -1.5),
        "moving": (0.5, moving, 0.0),
        "active": (0.5, measured["share"] / moving + 1e-6, 0.0),
        "square": (0.5, measured["square"] / moving + _TINY, 0.0),
        "peak": (0.5, measured["peak"] + _TINY, 0.0),
    }
    shape = len(of_training), *scale.shape
    of_training = ops.expand_dims(ops.stack(list(of_training.values())), 1)
    of_training = ops.broadcast_to(of_training, shape)
    factors, arguments, summands = zip(*logarithms.values(), strict=True)
    own = ops.log(ops.stack(arguments))
    own = _column(factors, own.dtype) * own + _column(summands, own.dtype)
    # Of logarithms: the derivative is 0 where the peak is here.
    fall = own[8:9] - own[9:]
    vector = ops.cast(ops.logical_not(is_matrix), scale.dtype)
    # In the order of `SIGNALS`, without a row by itself: XLA compiles each.
    return ops.concatenate(
        [
            *(of_training[:8], own[:4], ops.expand_dims(vector, 0), own[4:8]),
            *(fall, of_training[8:], (1 - is_known) * fall),
        ]
    )


def _column(numbers, dtype):
    return ops.convert_to_tensor([[number] for number in numbers], dtype)


def _elements(number, is_matrix):
    """Returns numbers of elements; of vectors, 1."""
    return ops.where(is_matrix, ops.maximum(number, 1.0), 1.0)


def _factor(schedule, exponentials, t, steps):
    """Returns the schedule's factor, a scalar tensor."""
    length = ops.maximum(steps, 1.0)
    warmup = ops.minimum(1.0, t / (exponentials["warmup"] * length + 1))
    progress = ops.clip((t - 1) / length, 0.0, 1.0)
    cosine = 0.5 * (1 + ops.cos(math.pi * progress)) + 1e-6
    known = warmup * ops.power(cosine, schedule["power"])
    unknown = ops.minimum(1.0, t / 20) * ops.power(
        1 + t * exponentials["unknown_steps"], -schedule["unknown_power"]
    )
    return ops.where(steps > 0, known, unknown)
