"""Pure recurrent and dense cells in Keras' weight layout.

Every function maps (inputs, state, weights) to outputs and holds nothing, so
the same code runs in meta-training, in `fit` and in an exported SavedModel.
"""

import keras
from keras import ops


def init_lstm(input_size, units, seed):
    """Returns the initial weights of one LSTM layer, as `keras.layers.LSTM`.

    Glorot-uniform kernel, orthogonal recurrent kernel, zero bias except for a
    forget-gate bias of 1 (`unit_forget_bias`; section 3 of the paper).

    Args:
        input_size: int, number of input features.
        units: int, number of hidden units.
        seed: int >= 0.

    Returns:
        Dict of tensors: `kernel` of shape `[input_size, 4 * units]`,
        `recurrent_kernel` `[units, 4 * units]` and `bias` `[4 * units]`, the
        gates in the order i, f, c, o.
    """
    recurrent_kernel = keras.initializers.OrthogonalInitializer(seed=seed)(
        (units, 4 * units)
    )
    zeros = ops.zeros((units,), dtype=recurrent_kernel.dtype)
    return {
        "kernel": keras.initializers.GlorotUniform(seed=seed)(
            (input_size, 4 * units)
        ),
        "recurrent_kernel": recurrent_kernel,
        "bias": ops.concatenate([zeros, zeros + 1, zeros, zeros]),
    }


def lstm_step(inputs, state, weights):
    """Applies one step of an LSTM, equal to `keras.layers.LSTMCell`.

    ```
    i, f, c, o = split(inputs @ kernel + hidden @ recurrent_kernel + bias, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * tanh(c)
    hidden = sigmoid(o) * tanh(cell)
    ```

    Args:
        inputs: Tensor of shape `[n, input_size]`.
        state: Tuple `(hidden, cell)` of tensors of shape `[n, units]`.
        weights: Dict as returned by `init_lstm`.

    Returns:
        The new state `(hidden, cell)`; `hidden` is also the output.
    """
    hidden, cell = state
    gates = (
        ops.matmul(inputs, weights["kernel"])
        + ops.matmul(hidden, weights["recurrent_kernel"])
        + weights["bias"]
    )
    i, f, c, o = ops.split(gates, 4, axis=-1)
    cell = ops.sigmoid(f) * cell + ops.sigmoid(i) * ops.tanh(c)
    return ops.sigmoid(o) * ops.tanh(cell), cell


def init_dense(input_size, units, seed):
    """Returns the initial weights of a dense layer: `kernel` and `bias`.

    Glorot-uniform kernel of shape `[input_size, units]`, zero bias `[units]`.
    """
    kernel = keras.initializers.GlorotUniform(seed=seed)((input_size, units))
    return {"kernel": kernel, "bias": ops.zeros((units,), dtype=kernel.dtype)}


def dense(inputs, weights):
    """Returns `inputs @ kernel + bias`, of shape `[n, units]`."""
    return ops.matmul(inputs, weights["kernel"]) + weights["bias"]
