"""Pure recurrent and dense cells in Keras' weight layout.

Every function maps (inputs, state, weights) to outputs and holds no state, so
the same code runs in meta-training, in `fit` and in an exported SavedModel.
Coordinates are the last axis of all inputs, states and outputs. Each gate is
then a contiguous block of memory, which makes a cell fast.
"""

import math

import keras
from keras import ops

# A tensor with this number of elements does not stay in a cache.
LARGE = 2**16


def init_lstm(input_size, units, seed):
    """Returns the initial weights of an LSTM layer, like `keras.layers.LSTM`.

    Glorot-uniform kernel, orthogonal recurrent kernel, zero bias except for a
    forget-gate bias of 1 (`unit_forget_bias`; section 3 of the paper).

    Args:
        input_size: Int, number of input features.
        units: Int, number of hidden units.
        seed: Int >= 0.

    Returns:
        Dict of float32 tensors: `kernel` of shape `[input_size, 4 * units]`,
        `recurrent_kernel` `[units, 4 * units]` and `bias` `[4 * units]`, the
        gates in the order i, f, c, o.
    """
    recurrent_kernel = keras.initializers.OrthogonalInitializer(seed=seed)(
        (units, 4 * units), dtype="float32"
    )
    zeros = ops.zeros((units,), dtype="float32")
    return {
        "kernel": keras.initializers.GlorotUniform(seed=seed)(
            (input_size, 4 * units), dtype="float32"
        ),
        "recurrent_kernel": recurrent_kernel,
        "bias": ops.concatenate([zeros, zeros + 1, zeros, zeros]),
    }


def lstm_step(inputs, state, weights):
    """Applies one step of an LSTM, equal to `keras.layers.LSTMCell`.

    ```
    gates = kernel.T @ inputs + recurrent_kernel.T @ hidden + bias
    i, f, c, o = split(gates, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * tanh(c)
    hidden = sigmoid(o) * tanh(cell)
    ```

    Args:
        inputs: Tensor of shape `[input_size, n]`.
        state: Tuple `(hidden, cell)` of tensors of shape `[units, n]`.
        weights: Dict as from `init_lstm`.

    Returns:
        The new state `(hidden, cell)`; `hidden` is also the output.
    """
    hidden, cell = state
    units = hidden.shape[0]
    # A single product, since a sum of two would go through memory again.
    kernel = ops.transpose(
        ops.concatenate([weights["kernel"], weights["recurrent_kernel"]])
    )

    def halve(weight):
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, and tanh is cheaper. Slices, since
        # XLA of TensorFlow 2.16 loses the gradient of a product by a constant.
        i_f, c, o = ops.split(weight, [2 * units, 3 * units])
        return ops.concatenate([0.5 * i_f, c, 0.5 * o])

    gates = ops.matmul(halve(kernel), ops.concatenate([inputs, hidden]))
    gates = ops.tanh(gates + halve(weights["bias"])[:, None])
    i, f, c, o = ops.split(gates, 4)
    cell = 0.5 * ((1 + f) * cell + (1 + i) * c)
    return 0.5 * (1 + o) * ops.tanh(cell), cell


def init_dense(input_size, units, seed):
    """Returns the initial weights of a dense layer: `kernel` and `bias`.

    Glorot-uniform kernel of shape `[input_size, units]`, zero bias `[units]`;
    both are float32.
    """
    kernel = keras.initializers.GlorotUniform(seed=seed)(
        (input_size, units), dtype="float32"
    )
    return {"kernel": kernel, "bias": ops.zeros((units,), dtype="float32")}


def dense(inputs, weights):
    """Returns `kernel.T @ inputs + bias`, `[units, n]`, of `[size, n]`."""
    product = ops.matmul(ops.transpose(weights["kernel"]), inputs)
    return product + weights["bias"][:, None]


def small_product(kernel, inputs):
    """Returns `kernel.T @ inputs`, `[units, ...]`, of `[size, ...]`.

    This is meant for small kernels. A large product is a sum, into which XLA
    fuses the computation of the inputs. A small one is a matrix product, which
    compiles faster but needs its inputs in memory.
    """
    if math.prod(inputs.shape[1:]) < LARGE:
        return ops.tensordot(ops.transpose(kernel), inputs, axes=1)
    kernel = ops.reshape(kernel, (*kernel.shape, *[1] * len(inputs.shape[1:])))
    return sum(kernel[i] * inputs[i] for i in range(inputs.shape[0]))
