"""Measures speed, as ratios to Keras' Adam within one run.

Prints a table and writes --output (JSON). Benchmarks:

  startup: seconds to import the package, to build the optimizer for a model
      of 100 variables, and to trace its train step.

Example:

  python -m train.benchmark --benchmark=startup --output=runs/startup.json
"""

import os
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import keras_l2l
from keras_l2l import runs
from train import cli

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


BENCHMARKS = {"startup": startup}


def format_table(rows):
    """Returns the rows as text in columns, numbers with three digits."""
    cells = [[*rows[0]]] + [
        [v if isinstance(v, str) else f"{v:.3g}" for v in row.values()]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [cell.ljust(w) for cell, w in zip(line, widths, strict=True)]
        for line in cells
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def define_flags():
    flags.DEFINE_enum(
        "benchmark", "startup", sorted(BENCHMARKS), "What is measured."
    )
    flags.DEFINE_integer("repeats", 5, "Medians of this many.", lower_bound=1)
    flags.DEFINE_string("output", None, "New JSON file.", required=True)


def main():
    values = flags.FLAGS
    output = runs.require_new(values.output)
    rows = BENCHMARKS[values.benchmark](values.repeats)
    runs.write_json(
        output,
        {
            "benchmark": values.benchmark,
            "repeats": values.repeats,
            "cores": os.cpu_count(),
            "versions": runs.versions(),
            "rows": rows,
        },
    )
    print(format_table(rows))
    print(f"Written: {output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
