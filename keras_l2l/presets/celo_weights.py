"""Reads the meta-parameters that the authors of Celo and Celo2 publish."""

import io
import math
import pathlib

import numpy as np

from keras_l2l.presets.named_arrays import PresetError
from keras_l2l.rules import celo
from keras_l2l.rules import celo2
from keras_l2l.utils import nests
from keras_l2l.utils import npz

# Their files have 150 kB.
_LARGEST_FILE = 10_000_000
# With these bytes an `.npz` starts, as any ZIP file, and no msgpack of a dict.
_NPZ = b"PK"
_ARRAY = 1  # The type that flax gives to arrays in msgpack.
# These are in the files, but have no effect; `celo_schedule` lacks them.
_UNUSED = ("rnn_params/linear/", "rnn_params/rnn_to_controls/")
_FEATURES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
# From their order of features to that of `moments.features`.
_ORDER = (0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 9, 11, 10, 12)


def read(path):
    """Returns the rule and the meta-parameters in a file.

    Args:
        path: Path of a `theta.state` of Celo, msgpack of nested dicts of
            arrays, or of an `.npz` of Celo2, arrays by their names in PyTorch.
            Only strings, dicts and arrays of floats are read; nothing in the
            file can execute anything.

    Returns:
        Tuple `(rule, meta_params)`, the rule `Celo`, `CeloAdam` or `Celo2`.

    Raises:
        PresetError: if it is not such a file.
        ImportError: if the package msgpack is not installed.
    """
    path = pathlib.Path(path)
    if path.stat().st_size > _LARGEST_FILE:
        raise PresetError(
            f"{path} must have {_LARGEST_FILE} bytes at most. Received: "
            f"{path.stat().st_size}. It is not one of Celo's."
        )
    content = path.read_bytes()
    is_npz = content.startswith(_NPZ)
    try:
        return _celo2(content) if is_npz else _celo(content)
    except ValueError as error:
        kind = "an `.npz` of Celo2" if is_npz else "a `theta.state` of Celo"
        raise PresetError(
            f"{path} must be {kind}. Received: {error}"
        ) from error


def _celo(content):
    leaves = _Leaves(_unpack(content))
    schedule = {"schedule": _schedule(leaves)}
    if not leaves.has("ff_mod_stack/"):
        rule, meta_params = celo.CeloAdam(), schedule
    else:
        rule, meta_params = celo.Celo(), {**schedule, **_network(leaves)}
    leaves.check_all_taken()
    return rule, meta_params


def _celo2(content):
    leaves = _Leaves(npz.load(io.BytesIO(content)))
    blocks = [
        leaves.take(f"first_layer_weights.{i}", 8, n).T
        for i, n in enumerate(_FEATURES)
    ]
    network = {
        "hidden_0": {
            "kernel": np.concatenate([blocks[i] for i in _ORDER]),
            "bias": leaves.take("first_layer_bias", 8),
        },
        "hidden_1": {
            "kernel": leaves.take("hidden.weight", 8, 8).T,
            "bias": leaves.take("hidden.bias", 8),
        },
        # The other two outputs of the network are unused.
        "output": {
            "kernel": leaves.take("output.weight", 3, 8)[:1].T,
            "bias": leaves.take("output.bias", 3)[:1],
        },
    }
    leaves.check_all_taken()
    return celo2.Celo2(), {
        "embeddings": {},
        "vectors": {},
        "matrices": network,
    }


class _Leaves:
    """The arrays of a file by name, each of which is taken once."""

    def __init__(self, nest):
        self._leaves = dict(nests.named_leaves(nest))

    def has(self, prefix):
        return any(name.startswith(prefix) for name in self._leaves)

    def take(self, name, *shape):
        array = self._leaves.pop(name, None)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            found = getattr(array, "shape", "nothing")
            raise ValueError(f"{name}: expected {shape}, received {found}")
        return array

    def dense(self, name, inputs, units):
        return {
            "kernel": self.take(f"{name}/w", inputs, units),
            "bias": self.take(f"{name}/b", units),
        }

    def check_all_taken(self):
        rest = [n for n in self._leaves if not n.startswith(_UNUSED)]
        if rest:
            raise ValueError(f"also {', '.join(rest)}")


def _schedule(leaves):
    gates = leaves.dense("rnn_params/rnn/linear", 128, 256)
    # Their gates are i, g, f, o, with 1 added to f.
    kernel, bias = (
        np.concatenate([i, f, g, o], -1)
        for i, g, f, o in (
            np.split(gates[name], 4, -1) for name in ("kernel", "bias")
        )
    )
    bias[64:128] += 1
    return {
        "direct": leaves.dense("rnn_params/linear_2", 18, 64),
        "pooled": leaves.dense("rnn_params/linear_1", 18, 64),
        "lstm": {
            "kernel": kernel[:64],
            "recurrent_kernel": kernel[64:],
            "bias": bias,
        },
        "initial": {
            name: leaves.take(f"lstm_init_state/{name}", 1, 64)[0]
            for name in ("hidden", "cell")
        },
        "output": leaves.dense("rnn_params/step_size", 64, 1),
    }


def _network(leaves):
    name = "ff_mod_stack/~"

    def take(leaf, *shape):
        return leaves.take(f"{name}/{leaf}", 1, *shape)[0]

    blocks = [take(f"w0__{i}", n, 4) for i, n in enumerate(_FEATURES)]
    kernel = np.concatenate([blocks[i] for i in _ORDER])
    # The third output of the network is unused.
    kernels = (kernel, take("w1", 4, 4), take("w2", 4, 3)[:, :2])
    biases = (take("b0", 4), take("b1", 4), take("b2", 3)[:2])
    names = ("hidden_0", "hidden_1", "output")
    return {
        name: {"kernel": kernel, "bias": bias}
        for name, kernel, bias in zip(names, kernels, biases, strict=True)
    }


def _unpack(content):
    import msgpack

    def array(code, data):
        if code != _ARRAY:
            raise ValueError(f"msgpack with a value of type {code}")
        shape, dtype, values = msgpack.unpackb(data)
        if dtype != "float32" or not all(type(n) is int for n in shape):
            raise ValueError(f"an array of {dtype!r} and shape {shape!r}")
        if len(values) != 4 * math.prod(shape):
            raise ValueError(f"{len(values)} bytes for an array of {shape}")
        return np.frombuffer(values, "<f4").reshape(shape)

    try:
        nest = msgpack.unpackb(content, ext_hook=array)
    except (TypeError, msgpack.UnpackException, ValueError) as error:
        raise ValueError(f"what is no such msgpack: {error}") from error
    if not isinstance(nest, dict):
        raise ValueError(f"msgpack of a {type(nest).__name__}")
    return nest
