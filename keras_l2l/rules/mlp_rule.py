"""`MLPRule`: a small network on moments of gradients.

The reasons for its constants, and the measurements behind them, are in
`docs/results/full_training_runs.md`.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_l2l.rules import ema
from keras_l2l.rules import moments
from keras_l2l.rules import tensorwise
from keras_l2l.rules import vectors

# Scales of the features of time. Later steps all look alike, so the rule never
# meets a time that it was not trained on.
_TIMES = (1, 3, 10, 30, 100, 300, 1000, 3000)
_STEP_SCALE, _LARGEST_MAGNITUDE = 0.01, 5.0
# Of ten pairs of a scale and a decay, the best with fresh meta-parameters.
_DECAY_STEPS = 100.0
# Transformers still learn after this step, and need updates of that size.
_LAST_DECAY = 1000.0
# Later gradients are compared with those of the first steps.
_EARLY_STEPS = 100
# Limits of growth. Gradients that have grown mean that much is left to learn.
_SMALLEST_GROWTH, _LARGEST_GROWTH = 0.01, 10.0
# Coordinates of a larger matrix move together, so each must move less.
_TYPICAL_SIZE = 4000
# Parameters that start at 0 must be able to move.
_SMALLEST_PARAM = 0.01
# Scales of a normalization are close to 1; updates relative to that are large.
_VECTOR_SCALE = 0.1


@keras.saving.register_keras_serializable(package="keras_l2l")
class MLPRule(tensorwise.TensorwiseRule):
    """A network of two layers of 4 units, applied to every coordinate.

    ```
    features = gradient, parameter, EMAs of gradients and of their squares,
        also factored; each divided by its root mean square over the tensor
    growth = rms of gradients now / rms of those of the first 100 steps, from
        an EMA with decay 0.999; 1 during these steps, clipped to [0.01, 10]
    signals = steps taken; signal-to-noise ratio of gradients; rms of the
        parameters at the first step, and its growth since; growth; whether
        the tensor has fewer than two axes
    direction, magnitude = network(features, signals)
    magnitude = magnitude + signals . schedule
    scale = sqrt(rms of the parameters at the first step ** 2 + 0.01 ** 2)
            * (4000 / number of parameters) ** (1 / 4);
            0.1 for tensors with fewer than two axes
    size = 0.01 / sqrt(1 + min(t, 1000) / 100) * sqrt(growth) * scale
    update = size * exp(5 * tanh(magnitude / 5)) * direction
    ```

    A step takes a few hundred operations per coordinate; an LSTM takes ten
    thousand. The state has four floats per coordinate, seven in tensors with
    fewer than two axes, and four per tensor. Fresh meta-parameters give
    normalized momentum with decaying updates. Meta-training starts from there.

    Deviations from the paper:

    - Signals are added. Normalized features cannot show what all coordinates
      of a tensor have in common, such as gradients that are pure noise.
    - Signals also go straight to the magnitude, so that a schedule is learned
      sooner.
    - Magnitudes are not multiplied by 0.001, so that they are learned sooner.
    - Updates are relative to the parameters, as in Adafactor and Celo, but to
      those of the first step. Otherwise updates and parameters would make each
      other grow. They are smaller in larger matrices, so that what is right
      for a layer is nearly right for a wider one.
    - Updates decay at first, since unrolls are too short to teach this. They
      are larger where gradients have grown.

    Reference:
        Metz et al., 2022 (arXiv 2203.11860), the rule "small_fc".
    """

    def init_meta_params(self, seed):
        number = len(_TIMES) + len(moments.DECAYS) + 4
        network = moments.init_network(seed, further=number)
        # From the signals straight to the magnitude.
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
        averages = moments.where(mask, new["moments"], old["moments"])
        # A step without any gradient does not count, as for moments.
        growth = vectors.where(ops.any(mask), new["growth"], old["growth"])
        return {**new, "moments": averages, "growth": growth}

    def step(self, meta_params, inputs, state):
        return self.step_tensors(meta_params, inputs, state, inputs.iteration)

    def tensor_step(self, meta_params, gradient, param, state, shared):
        t = ops.cast(shared, gradient.dtype) + 1
        averages = moments.update(state["moments"], gradient)
        rms = ops.sqrt(ops.mean(ops.square(param)) + _SMALLEST_PARAM**2)
        # Updates and parameters that are relative to each other would grow.
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
    """Returns the next state, and the growth of gradients since the start.

    Steps are counted for each tensor from its first gradient other than 0. The
    state may be newer than the training, as after `save_state=False`.
    """
    square = ema.update(
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
