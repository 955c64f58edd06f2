"""How long one update takes, of an optimizer alone."""

import time

import keras
import numpy as np
import tensorflow as tf

import keras_l2l
from keras_l2l import rules as rules_lib
from keras_l2l.optimizer import chunks
from train.benchmarks import other_frameworks
from train.benchmarks import timing

# What is updated: the tensors of a 784-1024-200-10 network, a million
# parameters; and as many in a hundred tensors, as deep networks have.
MODELS = {
    "3 layers": [(784, 1024), (1024,), (1024, 200), (200,), (200, 10), (10,)],
    "100 tensors": [(100, 100)] * 100,
}
RULES = {
    "celo": lambda: rules_lib.Celo(num_steps=1000),
    "celo_adam": lambda: rules_lib.CeloAdam(num_steps=1000),
    "mixture": rules_lib.MomentumMixture,
    "mlp": rules_lib.MLPRule,
    "rnnprop": rules_lib.RNNprop,
    "lstm": rules_lib.CoordinatewiseLSTM,
}


def rules(repeats):
    """Returns rows of one update of a model, by rules, beside Adam."""
    rows = []
    for model, shapes in MODELS.items():
        work, first, state = {}, {}, {}
        count = sum(map(np.prod, shapes))
        for name in ("adam", *RULES):
            optimizer = (
                keras.optimizers.Adam()
                if name == "adam"
                else keras_l2l.LearnedOptimizer(rule=RULES[name]())
            )
            variables = [keras.Variable(np.zeros(s, "float32")) for s in shapes]
            gradients = [
                tf.random.stateless_normal(s, [0, i])
                for i, s in enumerate(shapes)
            ]
            start = time.perf_counter()
            work[name] = _apply(optimizer, variables, gradients)
            first[name] = time.perf_counter() - start
            # Not counters, nor a bit for each parameter.
            floats = sum(
                np.prod(v.shape)
                for v in optimizer.variables
                if v.dtype not in ("bool", "int64")
            )
            if name != "adam":
                floats -= sum(np.prod(v.shape) for v in optimizer._meta_params)
            state[name] = floats / count
        seconds = timing.alternate(work, repeats)
        rows += [
            {
                "model": model,
                "rule": name,
                "first_s": first[name],
                "update_ms": 1e3 * seconds[name],
                "times_adam": seconds[name] / seconds["adam"],
                "floats_per_parameter": state[name],
            }
            for name in work
        ]
    return rows


def _lstm(n):
    """Returns a function that applies an update of `n` coordinates."""
    rule = rules_lib.CoordinatewiseLSTM()
    return _apply(
        keras_l2l.LearnedOptimizer(rule=rule),
        [keras.Variable(np.zeros(n, "float32"))],
        [tf.random.stateless_normal([n], [0, 0])],
    )


def _apply(optimizer, variables, gradients):
    """Returns a function that applies one update, having done so twice."""

    @tf.function(autograph=False)
    def apply():
        # For rules that must see it.
        optimizer.scale_loss(tf.constant(1.0))
        optimizer.apply(gradients, variables)

    def run():
        apply()
        variables[-1].numpy()  # Waits.

    run()
    run()
    return run


def frameworks(repeats, n=2**20, size=4096):
    """Returns rows of nanoseconds per coordinate, by who computes them."""
    matrix = tf.random.stateless_normal([size, size], [0, 0])
    candidates = {
        "matrix products alone": lambda: tf.matmul(matrix, matrix).numpy(),
        "keras_l2l": _lstm(n),
    }
    chunk, chunks.CHUNK = chunks.CHUNK, n
    candidates["keras_l2l, not in chunks"] = _lstm(n)
    chunks.CHUNK = chunk
    for name, make in other_frameworks.UPDATES.items():
        try:
            candidates[name] = make(n)
        except ImportError:
            continue
        candidates[name]()
        candidates[name]()
    seconds = timing.alternate(candidates, repeats)
    # 2 * 80 * (22 + 40) operations in the cells, none counted elsewhere.
    seconds["matrix products alone"] *= n * 9920 / (2 * size**3)
    return [
        {
            "who": name,
            "ns": 1e9 * value / n,
            "times_keras_l2l": value / seconds["keras_l2l"],
            "share_of_matrix_rate": seconds["matrix products alone"] / value,
        }
        for name, value in seconds.items()
    ]
