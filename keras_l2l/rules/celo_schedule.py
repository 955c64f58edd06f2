"""The learned schedule of Celo: one positive factor for every step."""

import numpy as np
from keras import ops

from keras_l2l.rules import cells

_UNITS = 64
_AVERAGES = 10
_SHORTEST_HALFLIFE = 10
_PHASES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
_FEATURES = len(_PHASES) + _AVERAGES - 1
# Above every loss. A float, since the integer is too large for JAX.
_NO_MINIMUM = 999999999999.0


def init_meta_params(seed):
    """Returns fresh meta-parameters of the schedule, a nest of dicts."""
    zeros = ops.zeros((_UNITS,), dtype="float32")
    return {
        "direct": cells.init_dense(_FEATURES, _UNITS, seed),
        "pooled": cells.init_dense(_FEATURES, _UNITS, seed + 1),
        "lstm": cells.init_lstm(_UNITS, _UNITS, seed),
        "initial": {"hidden": zeros, "cell": zeros},
        "output": cells.init_dense(_UNITS, 1, seed),
    }


def init_state():
    """Returns the state before the first step, a dict of tensors."""
    zeros = ops.zeros((_AVERAGES,), dtype="float32")
    return {
        "hidden": ops.zeros((_UNITS,), dtype="float32"),
        "cell": ops.zeros((_UNITS,), dtype="float32"),
        "means": zeros,
        "minima": zeros + _NO_MINIMUM,
        # Less than the iteration after losses that were NaN or a fresh state.
        "losses_seen": ops.zeros((), dtype="float32"),
    }


def step(meta_params, loss, state, iteration, num_steps):
    """Computes the factor of one step.

    ```
    means = EMAs of the loss, with half-lives from 10 to num_steps
    features = each EMA relative to that of the next longer half-life, and how
               much of the training is over
    inputs = direct(features) + relu(pooled(features))
    hidden, cell = lstm_step(inputs, (hidden, cell))
    factor = 0.1 * exp(output(hidden))
    ```

    Args:
        meta_params: As from `init_meta_params`.
        loss: Scalar tensor.
        state: As from `init_state`.
        iteration: Scalar integer tensor, steps taken so far.
        num_steps: Int, the length of the training.

    Returns:
        Tuple of the factor, a scalar tensor, and the new state.
    """
    dtype = state["means"].dtype
    t = ops.cast(iteration, dtype)
    # A count has no derivative.
    seen = ops.stop_gradient(state["losses_seen"])
    loss = ops.cast(loss, dtype)
    halflives = np.geomspace(_SHORTEST_HALFLIFE, num_steps, _AVERAGES)

    def as_tensor(values):
        return ops.convert_to_tensor(values, dtype)

    # 1 - decay and 1 - decay ** (seen + 1), precise for decays close to 1.
    rate = as_tensor(-np.expm1(-1 / halflives))
    weight = -ops.expm1(as_tensor(-1 / halflives) * (seen + 1))
    highest = ops.where(seen == 0, loss, ops.max(state["means"] / weight))
    # A single huge loss counts at most twice the highest average.
    loss = ops.minimum(2 * ops.abs(highest), loss)
    means = state["means"] + rate * (loss - state["means"])
    unbiased = means / weight
    minima = ops.minimum(state["minima"], unbiased)
    spread = ops.maximum(unbiased[1:] - minima[:-1], 1e-8)
    loss_features = ops.clip(
        (unbiased[:-1] - minima[:-1]) / spread - 1, -1.0, 1.0
    )
    loss_features = ops.where(
        seen + 1 <= 2, ops.zeros_like(loss_features), loss_features
    )
    phase_features = ops.tanh(10 * (t / num_steps - as_tensor(_PHASES)))
    features = ops.concatenate([phase_features, loss_features])[:, None]
    inputs = cells.dense(features, meta_params["direct"]) + ops.relu(
        cells.dense(features, meta_params["pooled"])
    )
    before = [
        ops.where(seen == 0, meta_params["initial"][name], state[name])[:, None]
        for name in ("hidden", "cell")
    ]
    hidden, cell = cells.lstm_step(inputs, before, meta_params["lstm"])
    factor = 0.1 * ops.exp(cells.dense(hidden, meta_params["output"])[0, 0])
    return factor, {
        "hidden": hidden[:, 0],
        "cell": cell[:, 0],
        "means": means,
        "minima": minima,
        "losses_seen": seen + 1,
    }
