"""Files as Celo's authors publish them, for tests.

Theirs are other people's weights, and not in this repository: they are used
where `../shared/celo` and `../shared/celo2` hold them. Elsewhere files of the
same structure are made of random numbers.
"""

import functools
import pathlib
import tempfile

import msgpack
import numpy as np

PUBLISHED = pathlib.Path(__file__).parents[2] / "shared" / "celo"
# Recorded by running the authors' implementation in JAX for 30 steps on five
# tensors, with given gradients and losses.
TRAJECTORIES = PUBLISHED / "trajectories.npz"
PUBLISHED_2 = PUBLISHED.parent / "celo2"
# 20 steps of the authors' implementation in PyTorch, with given gradients.
TRAJECTORIES_2 = PUBLISHED_2 / "trajectories.npz"

_SCHEDULE = {
    "lstm_init_state": {"hidden": (1, 64), "cell": (1, 64)},
    "rnn_params": {
        "linear": {"w": (18, 64), "b": (64,)},
        "linear_1": {"w": (18, 64), "b": (64,)},
        "linear_2": {"w": (18, 64), "b": (64,)},
        "rnn/linear": {"w": (128, 256), "b": (256,)},
        "step_size": {"w": (64, 1), "b": (1,)},
    },
}
# Columns of the features, in the order of the file.
_COLUMNS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
_CELO2 = {
    **{f"first_layer_weights.{i}": (8, n) for i, n in enumerate(_COLUMNS)},
    "first_layer_bias": (8,),
    "hidden.weight": (8, 8),
    "hidden.bias": (8,),
    "output.weight": (3, 8),
    "output.bias": (3,),
}
_STRUCTURES = {
    "celo_adam": _SCHEDULE,
    "celo": {
        "lstm_init_state": _SCHEDULE["lstm_init_state"],
        "rnn_params": {
            **_SCHEDULE["rnn_params"],
            "rnn_to_controls": {"w": (64, 1), "b": (1,)},
        },
        "ff_mod_stack": {
            "~": {
                **{f"w0__{i}": (1, n, 4) for i, n in enumerate(_COLUMNS)},
                **{"w1": (1, 4, 4), "w2": (1, 4, 3)},
                **{"b0": (1, 4), "b1": (1, 4), "b2": (1, 3)},
            }
        },
    },
}


def file(name):
    """Returns the path of published weights, else of random numbers.

    Args:
        name: `"celo"`, `"celo_adam"` or `"celo2"`.
    """
    path = PUBLISHED / f"{name}.msgpack"
    if name == "celo2":
        path = PUBLISHED_2 / "weights.npz"
    return path if path.exists() else random_file(name)


@functools.cache
def random_file(name):
    """Returns the path of one of random numbers, the same in any process."""
    path = pathlib.Path(_folder().name) / f"{name}.msgpack"
    rng = np.random.default_rng(0)
    if name == "celo2":
        arrays = {key: 0.3 * rng.normal(size=s) for key, s in _CELO2.items()}
        path = path.with_suffix(".npz")
        np.savez(path, **{k: a.astype("float32") for k, a in arrays.items()})
        return path
    path.write_bytes(msgpack.packb(_filled(_STRUCTURES[name], rng)))
    return path


def array(values, dtype="float32", shape=None):
    """Returns an array as flax packs it."""
    values = np.asarray(values, dtype)
    packed = [shape or values.shape, dtype, values.tobytes()]
    return msgpack.ExtType(1, msgpack.packb(packed))


def _filled(structure, rng):
    if isinstance(structure, tuple):
        return array(0.3 * rng.normal(size=structure))
    return {name: _filled(part, rng) for name, part in structure.items()}


@functools.cache
def _folder():
    # Gone with the process.
    return tempfile.TemporaryDirectory()
