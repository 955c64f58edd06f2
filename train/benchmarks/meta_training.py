"""How fast meta-training is, and how much memory it takes."""

import keras
import numpy as np
import tensorflow as tf

import keras_l2l
from keras_l2l import estimators
from train.benchmarks import other_frameworks
from train.benchmarks import timing

BATCH_SIZE = 128


def meta_training(repeats):
    """Returns rows by who, inputs, tasks, horizon and unroll length."""
    rows = [
        ("keras_l2l", 784, 1, 100, 20),
        ("keras_l2l", 784, 4, 100, 20),
        ("keras_l2l", 784, 1, 1000, 20),
        ("keras_l2l", 784, 1, 100, 5),
        ("keras_l2l", 784, 1, 100, 50),
        ("keras_l2l", 784, 1, 100, 100),
        ("jax", 784, 1, 100, 20),
        ("jax, checkpointed", 784, 1, 100, 20),
        ("keras_l2l", 64, 1, 100, 20),
        ("keras_l2l, new episode", 64, 1, 100, 20),
        ("jax", 64, 1, 100, 20),
        ("jax, checkpointed", 64, 1, 100, 20),
    ]
    memory, work = {}, {}
    for row in rows:
        try:
            memory[row] = timing.in_fresh_process(_first_step, *row)
        except ImportError:
            continue
        work[row] = _meta_step(*row)
        work[row]()
    seconds = timing.alternate(work, repeats)
    return [
        {
            "who": who,
            "layers": "-".join(map(str, _layers(inputs))),
            "tasks": tasks,
            "horizon": horizon,
            "unroll": unroll_length,
            "inner_steps_per_s": tasks * unroll_length / seconds[row],
            "tasks_per_s": tasks * unroll_length / horizon / seconds[row],
            **memory[row],
        }
        for row in work
        for who, inputs, tasks, horizon, unroll_length in [row]
    ]


def _layers(inputs):
    return [inputs, 20, 10]


def _first_step(*row):
    run = _meta_step(*row)
    before = timing.reset_peak_mb()
    return {
        # With what is traced and compiled.
        "first_s": timing.seconds(run),
        "peak_mb": timing.peak_mb() - before,
    }


def _meta_step(who, inputs, tasks, horizon, unroll_length):
    """Returns a function that takes one meta-step, on random images."""
    if "jax" in who:
        return other_frameworks.jax_meta_step(
            _layers(inputs), BATCH_SIZE, unroll_length, "checkpointed" in who
        )
    estimator = _estimator(inputs, horizon, unroll_length)
    meta_params = estimator.rule.init_meta_params(0)

    @tf.function(autograph=False)
    def estimate(episodes):
        # All of it: what is not returned TensorFlow does not compute.
        return [estimator.estimate(meta_params, e, 0) for e in episodes]

    def init():
        return [estimator.init(i) for i in range(tasks)]

    episodes = init()

    def run():
        now = init() if "new episode" in who else episodes
        return [tensor.numpy() for tensor in tf.nest.flatten(estimate(now))]

    return run


def _estimator(inputs, horizon, unroll_length):
    """Returns a `TruncatedBackprop` for a small network on random images."""
    sizes = _layers(inputs)
    rng = np.random.default_rng(0)
    data = rng.random((5000, sizes[0]), "float32"), rng.integers(0, 10, 5000)

    def make_model():
        hidden = [keras.layers.Dense(n, "sigmoid") for n in sizes[1:-1]]
        logits = keras.layers.Dense(sizes[-1])
        return keras.Sequential([keras.Input(sizes[:1]), *hidden, logits])

    task = keras_l2l.tasks.KerasModelTask(
        make_model,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        data,
        BATCH_SIZE,
    )
    return estimators.TruncatedBackprop(unroll_length=unroll_length).bind(
        keras_l2l.CoordinatewiseLSTM(), task, horizon
    )
