"""`LearnedOptimizer` under `tf.distribute`: as on one device, or as Adam."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import leaves

import keras_l2l

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)


def classifier(**arguments):
    keras.utils.set_random_seed(0)
    # In float64, since replicas add the gradients in another order: the rule
    # is steep at small ones and magnifies that rounding, in float32 to 1.2e-6.
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="float64"),
            keras.layers.Dense(8, activation="sigmoid", dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )
    model.compile(
        keras_l2l.LearnedOptimizer(0.1, **arguments),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.mark.parametrize(
    "arguments", [{}, {"clipnorm": 0.5, "weight_decay": 0.01}], ids=str
)
def test_mirrored_strategy_equals_one_device(strategy, arguments):
    one = classifier(**arguments)
    with strategy.scope():
        two = classifier(**arguments)
    for model in (one, two):
        model.fit(X, Y, batch_size=32, epochs=5, shuffle=False, verbose=0)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert np.abs(two.get_weights()[0]).max() > 0
    assert two.optimizer.iterations.numpy() == 10
    for variable in [*two.trainable_variables, *two.optimizer.variables]:
        first, second = leaves(
            list(strategy.experimental_local_results(variable.value))
        )
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "make", [keras_l2l.LearnedOptimizer, keras.optimizers.Adam]
)
def test_optimizer_made_outside_the_scope_raises(strategy, make):
    optimizer = make()
    with strategy.scope():
        variable = keras.Variable(np.ones(3, "float32"))
        with pytest.raises(RuntimeError, match="Mixing different"):
            optimizer.build([variable])


def run_workers(folder, number):
    """Trains with local workers; returns what each of them ended with."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("localhost", 0))
        ports = [each.getsockname()[1] for each in sockets]
    addresses = ",".join(f"localhost:{port}" for port in ports)
    root = pathlib.Path(__file__).parents[2]
    files = [folder / f"worker_{i}_of_{number}.npz" for i in range(number)]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "tests/one_worker.py",
                *(str(file), addresses, str(i)),
            ],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, file in enumerate(files)
    ]
    try:
        errors = [p.communicate(timeout=120)[1] for p in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(p.returncode == 0 for p in processes), errors
    return [dict(np.load(file)) for file in files]


@pytest.mark.slow
def test_multi_worker_custom_loop_equals_one_worker(tmp_path):
    first, second = run_workers(tmp_path, 2)
    (alone,) = run_workers(tmp_path, 1)
    assert first.keys() == second.keys() == alone.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
        # The logarithm of a small gradient magnifies its rounding in the state.
        tolerance = 1e-6 if name == "weights" else 1e-5
        np.testing.assert_allclose(value, alone[name], tolerance, tolerance)
    assert first["iterations"] == 5
