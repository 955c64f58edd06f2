"""A small network on moments of gradients, the core of several rules."""

import itertools
import math

import numpy as np
from keras import ops

from keras_l2l.rules import cells
from keras_l2l.rules import ema

DECAYS = (0.9, 0.99, 0.999)
# Gradients are clipped to this absolute value.
LARGEST_GRADIENT = 1000.0
# The number of `features`.
FEATURES = 30
# The index of the feature `m / sqrt(r)` with the first decay.
_NORMALIZED_MOMENTUM = 7
_UNITS, _OUTPUTS = 4, 2
_SMALL = 0.1


def init_network(seed, further=0, units=_UNITS, outputs=_OUTPUTS):
    """Returns meta-parameters of a network of two hidden layers.

    Args:
        seed: Int >= 0.
        further: Int, number of inputs in addition to `features`.
        units: Int, units of each hidden layer. Defaults to 4.
        outputs: Int. Defaults to 2, a direction and a magnitude.
    """
    return {
        "hidden_0": cells.init_dense(FEATURES + further, units, seed),
        "hidden_1": cells.init_dense(units, units, seed + 1),
        "output": cells.init_dense(units, outputs, seed),
    }


def momentum_network(meta_params):
    """Returns a network that starts as normalized momentum.

    The first two units are the positive and the negative part of normalized
    momentum, `m / sqrt(r)`, and `direction` is their difference. All other
    weights are random and small.
    """
    first, second, output = (
        {name: _SMALL * weight for name, weight in meta_params[layer].items()}
        for layer in ("hidden_0", "hidden_1", "output")
    )
    feature, unit = np.arange(first["kernel"].shape[0])[:, None], np.eye(_UNITS)
    of_momentum = (feature == _NORMALIZED_MOMENTUM) * (unit[0] - unit[1])
    dtype = first["kernel"].dtype
    first["kernel"] = first["kernel"] + ops.convert_to_tensor(
        of_momentum, dtype
    )
    second["kernel"] = second["kernel"] + ops.convert_to_tensor(unit, dtype)
    minus = np.outer(unit[1] - unit[0], [1, 0])
    output["kernel"] = output["kernel"] + ops.convert_to_tensor(minus, dtype)
    return {"hidden_0": first, "hidden_1": second, "output": output}


def init_state(shape):
    """Returns the initial moments of one tensor, a nest of tensors.

    They take four floats per element, or seven in a tensor with fewer than two
    axes, and means along two axes.
    """
    return {
        "m": ops.zeros((len(DECAYS), *shape), dtype="float32"),
        "r": ops.zeros(shape, dtype="float32"),
        "v": ema.FactoredMoments(shape, DECAYS).init_state(),
    }


def update(state, gradient, decay=DECAYS[-1]):
    """Returns the moments after one more gradient.

    Args:
        state: As from `init_state`.
        gradient: Tensor.
        decay: Float, that of the mean of squares `r`. Defaults to 0.999.
    """
    squares = ops.square(gradient)
    factored = ema.FactoredMoments(gradient.shape, DECAYS)
    return {
        "m": ema.update_many(state["m"], gradient, DECAYS),
        "r": ema.update(state["r"], squares, decay),
        "v": factored.update(state["v"], squares + 1e-30),
    }


def where(mask, new, old):
    """Returns the new moments where `mask` is True, and the old elsewhere."""
    factored = ema.FactoredMoments(new["r"].shape, DECAYS)
    return {
        "m": ops.where(mask, new["m"], old["m"]),
        "r": ops.where(mask, new["r"], old["r"]),
        "v": factored.where(mask, new["v"], old["v"]),
    }


def signal_to_noise(state, t):
    """Returns the signal-to-noise ratio of gradients, for each decay.

    ```
    root mean square of m_hat / sqrt(r_hat)       over the tensor
    ```

    The ratio is close to 1 while gradients agree, and close to
    `sqrt((1 - decay) / (1 + decay))` when they are pure noise.

    Args:
        state: As from `update`.
        t: Scalar tensor, updates so far.

    Returns:
        Tensor `[len(DECAYS)]`.
    """
    # `expm1` is precise where the decay is close to 1.
    logs = ops.convert_to_tensor(np.log(DECAYS), t.dtype)
    corrections = -ops.expm1(logs * t)
    m, r = state["m"], state["r"] / corrections[-1]
    axes = tuple(range(1, len(m.shape)))
    squares = ops.mean(ops.square(m) / (r + 1e-12), axis=axes)
    return ops.sqrt(squares + 1e-12) / corrections


def features(gradient, param, state, epsilon=1e-6):
    """Returns the features of one tensor that the network sees, in blocks.

    They are the gradient, the parameter, and EMAs of gradients and of their
    squares, also factored. Each block has the shape `[features, ...]`, where
    `...` broadcasts to the gradient's shape.

    Args:
        gradient, param: Tensors of one shape.
        state: As from `update`.
        epsilon: Float, added to squares before a division by their root.

    Reference:
        Metz et al., 2022 (arXiv 2203.11860), appendix.
    """
    m, r = state["m"], state["r"]
    factored = ema.FactoredMoments(gradient.shape, DECAYS)
    row, column = factored.expanded(state["v"])
    by_rms = ops.rsqrt(r + epsilon)
    normalizers = factored.normalizers(state["v"])
    by_momentum = normalizers if factored.is_factored else ops.rsqrt(row)
    return (
        gradient[None],
        ops.clip(gradient, -0.1, 0.1)[None],
        param[None],
        m,
        r[None],
        m * by_rms,
        by_rms[None],
        gradient * normalizers,
        (gradient * by_rms)[None],
        m * by_momentum,
        row,
        ops.rsqrt(row + 1e-8),
        column,
        ops.rsqrt(column + 1e-8),
    )


def network(meta_params, blocks, further=None, axes=None, epsilon=1e-5):
    """Applies the network to every element of one tensor.

    ```
    inputs = features / root mean square of each feature over the last axes
    hidden = relu(hidden_1(relu(hidden_0([inputs, further]))))
    outputs = output(hidden)
    ```

    Args:
        meta_params: As from `init_network`.
        blocks: As from `features`.
        further: Tensor `[further]`, inputs that all elements share, or
            `None`.
        axes: Int, over how many of the last axes features are normalized. By
            default over the tensor.
        epsilon: Float, added to the mean of squares.

    Returns:
        List of tensors of the optimizee tensor's shape, one for each output.
    """
    if math.prod(blocks[0].shape) < cells.LARGE:
        # Fewer operations compile faster.
        alike = itertools.groupby(blocks, key=lambda block: block.shape[1:])
        blocks = [ops.concatenate(list(group)) for _, group in alike]
    first, hidden, start = meta_params["hidden_0"], 0, 0
    for block in blocks:
        stop = start + block.shape[0]
        every = tuple(range(1, len(block.shape)))
        last = every[-axes:] if axes else every
        # Broadcasting does not change the mean, so it can come later.
        squares = ops.mean(ops.square(block), axis=last, keepdims=True)
        scale = ops.rsqrt(epsilon + squares)
        kernel = first["kernel"][start:stop]
        if last == every:
            kernel = kernel * ops.reshape(scale, (-1, 1))
        else:
            block = block * scale
        hidden = hidden + cells.small_product(kernel, block)
        start = stop
    bias = first["bias"]
    if further is not None:
        bias = bias + ops.matmul(further, first["kernel"][start:])
    hidden = _plus(hidden, bias)
    for name in ("hidden_1", "output"):
        layer = meta_params[name]
        hidden = cells.small_product(layer["kernel"], ops.relu(hidden))
        hidden = _plus(hidden, layer["bias"])
    return [hidden[i] for i in range(hidden.shape[0])]


def _plus(tensor, bias):
    return tensor + ops.reshape(bias, (-1, *[1] * (len(tensor.shape) - 1)))
