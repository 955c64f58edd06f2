"""One update by the default and by Adam, on each of Keras' backends.

As a script, measures the backend that KERAS_BACKEND names.
"""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
from keras import ops

import keras_l2l
from train.benchmarks import timing

# The kernels and biases of networks.
MODELS = {
    "1000-800-200-200": [
        *((1000, 800), (800,)),
        *((800, 200), (200,)),
        *((200, 200), (200,)),
    ],
    "784-128-10": [(784, 128), (128,), (128, 10), (10,)],
    "26 small variables": [(3, 3, 8, 16), (16,)] * 13,
}
_BACKENDS = ("tensorflow", "jax", "torch")


def backends(repeats):
    """Returns rows by backends that are installed and by `MODELS`."""
    rows = []
    for name in _BACKENDS:
        if importlib.util.find_spec(name) is None:
            continue
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(repeats)],
            env={**os.environ, "KERAS_BACKEND": name},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows += json.loads(done.stdout.splitlines()[-1])
    return rows


def measure(repeats):
    """Returns rows by `MODELS`, on the backend of this process."""
    rows = []
    for model, shapes in MODELS.items():
        work = {
            "adam": _update(keras.optimizers.Adam(), shapes),
            "default": _update(keras_l2l.LearnedOptimizer(), shapes),
        }
        first = {name: timing.seconds(run) for name, run in work.items()}
        found = timing.alternate(work, repeats)
        rows.append(
            {
                "backend": keras.backend.backend(),
                "model": model,
                **{f"{name}_first_s": first[name] for name in work},
                **{f"{name}_ms": 1e3 * found[name] for name in work},
                "times_adam": found["default"] / found["adam"],
            }
        )
    return rows


def _update(optimizer, shapes):
    """Returns a function that updates variables, as a train step does."""
    rng = np.random.default_rng(0)
    variables = [
        keras.Variable(0.1 * rng.normal(size=shape), dtype="float32")
        for shape in shapes
    ]
    gradients = [
        ops.convert_to_tensor(rng.normal(size=shape), "float32")
        for shape in shapes
    ]
    optimizer.build(variables)
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            update = tf.function(lambda: optimizer.apply(gradients, variables))
            return lambda: (update(), variables[-1].numpy())
        case "jax":
            import jax

            step = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
            state = [
                [v.value for v in optimizer.variables],
                [v.value for v in variables],
            ]

            def update():
                after = step(state[0], gradients, state[1])
                state[:] = jax.block_until_ready(after[::-1])

            return update
    return lambda: optimizer.apply(gradients, variables)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
