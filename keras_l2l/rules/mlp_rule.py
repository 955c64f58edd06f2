"""A small network on moments of gradients: cheap, and it knows the time."""

import math

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import accumulators
from keras_l2l.rules import moments
from keras_l2l.rules import tensorwise
from keras_l2l.rules import vectors

# Steps that the rule can tell from earlier ones. None after a few times the
# last: a rule must not meet a time then that it has not been trained on.
_TIMES = (1, 3, 10, 30, 100, 300, 1000, 3000)
_STEP_SCALE, _LARGEST_MAGNITUDE = 0.01, 5.0
# Of ten pairs of a scale and a decay, then without an end, fresh
# meta-parameters came lowest with this one in 10,000 steps of the MLPs that are
# meta-trained on.
_DECAY_STEPS = 100.0
# Until here: whether it pays to go on is learned. Transformers had not been
# done, and three networks of the split "meta_valid", two transformers among
# them, each ended 2 to 15 % higher where steps got smaller for 10,000 steps.
_LAST_DECAY = 1000.0
# Steps that gradients of later ones are compared with.
_EARLY_STEPS = 100
# Where gradients have got larger, much is left to learn, and where they have
# got smaller, little. With the same meta-parameters, of seven networks that
# none was meta-trained on a conv net ended 6 % lower with it, a wide MLP 3 %
# and a transformer 0.6 % lower, the others within 1 % or at 6e-8 for 3e-8; by
# the ratio instead of its square root, the conv net ended 9 % lower, but an MLP
# 7 % higher.
_SMALLEST_GROWTH, _LARGEST_GROWTH = 0.01, 10.0
# Coordinates of a large matrix move together, so that steps as large relative
# to it act by more, and so does what is noise in them. With the same
# meta-parameters, MLPs of 192 units, which are wider than any that is
# meta-trained on, ended 33 and 21 % higher without it, a conv net 13 % and a
# transformer 1 % higher, an MLP of 12 units 1 % lower.
_TYPICAL_SIZE = 4000
# Parameters that start at 0 must be able to move.
_SMALLEST_PARAM = 0.01
# Biases and scales, of any size: those of a normalization are next to 1, and
# steps relative to that are too large.
_VECTOR_SCALE = 0.1


@keras.saving.register_keras_serializable(package="keras_l2l")
class MLPRule(tensorwise.TensorwiseRule):
    """A network of two layers of 4 units, applied to every coordinate.

    ```
    features = gradient, parameter, moving averages of gradients and of their
        squares, also factored ones; each by its root mean square over the
        tensor
    growth = root mean square of gradients, an exponential average (0.999) of
        all steps by that of the first 100; 1 until then, within 0.01 and 10
    signals = how many steps were taken; how large averages of gradients are
        against gradients, and parameters, at first and since; growth; whether
        the tensor has fewer than two axes
    direction, magnitude = network(features, signals)
    magnitude = magnitude + signals . schedule
    scale = root mean square of the parameters at the first step, and of 0.01,
            times (4000 / their number)^(1/4);
            0.1 for tensors of fewer than two axes
    size = 0.01 / sqrt(1 + min(t, 1000) / 100) * sqrt(growth) * scale
    update = size * exp(5 * tanh(magnitude / 5)) * direction
    ```

    It takes a few hundred operations for each coordinate, where an LSTM takes
    ten thousand, and keeps four floats, seven of tensors with fewer than two
    axes, and four for the tensor. Fresh meta-parameters are of normalized
    momentum, with steps that get smaller over time: what was learned goes on
    from there.

    Deviations from the paper: features are blind to what is common to a
    tensor, as whether its gradients are all noise, which signals tell;
    magnitudes count in full, not by 0.001, so that they are learned sooner;
    updates are relative to parameters, as Adafactor's and Celo's are, but to
    those of the first step, as they would make each other grow, and smaller
    for more of them, so that what is right for a layer is nearly right for a
    wider one; they decay at first, as unrolls are too short to teach it, and
    are larger where gradients have grown; and signals also go straight to the
    magnitude.

    Reference:
        Metz et al., 2022 (arXiv 2203.11860), the rule "small_fc".
    """

    def init_meta_params(self, seed):
        number = len(_TIMES) + len(moments.DECAYS) + 4
        network = moments.init_network(seed, further=number)
        # Straight to the magnitude, so that a schedule is learned soon.
        schedule = {"kernel": ops.zeros((number,), dtype="float32")}
        return {**moments.momentum_network(network), "schedule": schedule}

    def init_tensor_state(self, shape):
        return {
            "moments": moments.init_state(shape),
            # 0 until the first step.
            "scale": ops.zeros((), dtype="float32"),
            "growth": {
                name: ops.zeros((), dtype="float32")
                for name in ("steps", "square", "early")
            },
        }

    def where(self, mask, new, old):
        found = moments.where(mask, new["moments"], old["moments"])
        # A step without any gradient does not count, as for moments.
        growth = vectors.where(ops.any(mask), new["growth"], old["growth"])
        return {**new, "moments": found, "growth": growth}

    def step(self, meta_params, inputs, state):
        return self.step_tensors(meta_params, inputs, state, inputs.iteration)

    def tensor_step(self, meta_params, gradient, param, state, shared):
        t = ops.cast(shared, gradient.dtype) + 1
        averages = moments.update(state["moments"], gradient)
        rms = ops.sqrt(ops.mean(ops.square(param)) + _SMALLEST_PARAM**2)
        # Relative to what they have made larger, steps would grow.
        first = ops.where(state["scale"] > 0, state["scale"], rms)
        is_vector = len(param.shape) < 2
        scale = _VECTOR_SCALE
        if not is_vector:
            number = max(1, math.prod(param.shape))
            scale = first * (_TYPICAL_SIZE / number) ** 0.25
        grown, growth = _growth(state["growth"], gradient)
        times = ops.convert_to_tensor(np.array(_TIMES), gradient.dtype)
        signals = ops.concatenate(
            [
                ops.tanh(t / times - 1),
                ops.log(moments.signal_to_noise(averages, t) + 1e-4),
                ops.log(first)[None],
                ops.log(rms / first)[None],
                ops.log(growth)[None],
                ops.full_like(rms, float(is_vector))[None],
            ]
        )
        direction, magnitude = moments.network(
            meta_params, moments.features(gradient, param, averages), signals
        )
        magnitude = magnitude + ops.matmul(
            signals, meta_params["schedule"]["kernel"]
        )
        magnitude = _LARGEST_MAGNITUDE * ops.tanh(
            magnitude / _LARGEST_MAGNITUDE
        )
        decay = ops.rsqrt(1 + ops.minimum(t, _LAST_DECAY) / _DECAY_STEPS)
        size = _STEP_SCALE * decay * ops.sqrt(growth) * scale
        return size * ops.exp(magnitude) * direction, {
            "moments": averages,
            "scale": first,
            "growth": grown,
        }


def _growth(state, gradient):
    """Returns the state one step on, and how gradients have grown since.

    Steps are those of the tensor, since its first gradient that was not 0: it
    may be newer than the training, as after `save_state=False`.
    """
    square = accumulators.decayed(
        state["square"], ops.mean(ops.square(gradient)), moments.DECAYS[-1]
    )
    steps = ops.where(square > 0, state["steps"] + 1, 0.0)
    correction = -ops.expm1(
        ops.maximum(steps, 1.0) * math.log(moments.DECAYS[-1])
    )
    size = ops.sqrt(square / correction + 1e-30)
    early = ops.where(steps <= _EARLY_STEPS, size, state["early"])
    growth = ops.clip(size / early, _SMALLEST_GROWTH, _LARGEST_GROWTH)
    return {"steps": steps, "square": square, "early": early}, growth
