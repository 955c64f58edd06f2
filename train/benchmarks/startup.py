"""How long it takes to begin."""

import statistics
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import keras_l2l

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "learned": keras_l2l.LearnedOptimizer,
}


def startup(repeats):
    """Returns rows of medians, alternating between the optimizers."""
    # For Adam that is the import of Keras.
    imports = {"adam": ("sys", "keras"), "learned": ("keras", "keras_l2l")}
    times = {
        ("import", name): [_import_seconds(*modules) for _ in range(repeats)]
        for name, modules in imports.items()
    }
    _build_and_trace(keras.optimizers.SGD)  # What is slow once only.
    for _ in range(repeats):
        for name, make in OPTIMIZERS.items():
            for what, seconds in _build_and_trace(make).items():
                times.setdefault((what, name), []).append(seconds)
    medians = {key: statistics.median(value) for key, value in times.items()}
    return [
        {
            "what": what,
            "adam_seconds": medians[what, "adam"],
            "learned_seconds": medians[what, "learned"],
            "ratio": medians[what, "learned"] / medians[what, "adam"],
        }
        for what in ("import", "build", "trace")
    ]


def _import_seconds(before, module):
    code = (
        f"import time, {before}; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _build_and_trace(make):
    model = keras.Sequential(
        [keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(50))]
    )
    start = time.perf_counter()
    optimizer = make()
    optimizer.build(model.trainable_variables)
    built = time.perf_counter()
    model.compile(optimizer, "mse")
    x = np.ones((4, 8), "float32")
    batches = iter(tf.data.Dataset.from_tensors((x, x)).repeat())
    model.make_train_function()
    tracing = time.perf_counter()
    # The first call also runs one step, of about a millisecond.
    model.train_function(batches)
    return {"build": built - start, "trace": time.perf_counter() - tracing}
