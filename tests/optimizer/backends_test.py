"""The same training on TensorFlow, JAX and PyTorch, where installed."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import celo_data
import numpy as np
import pytest

from keras_l2l import LearnedOptimizer

PRESETS = list(LearnedOptimizer.presets)
ROOT = pathlib.Path(__file__).parents[2]
INSTALLED = [n for n in ("jax", "torch") if importlib.util.find_spec(n)]
OTHERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name not in INSTALLED,
            reason=f"{name} is not installed: make backends",
        ),
    )
    for name in ("jax", "torch")
]


def run(backend, *arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done


def train(output, backend, *others):
    """Runs one_backend.py; returns its folder."""
    folder = output / backend
    done = run(backend, "tests/one_backend.py", folder, *others)
    assert done.returncode == 0, done.stderr
    return folder


def assert_close(path, expected):
    received, expected = np.load(path), np.load(expected)
    for name in ("losses", "weights"):
        np.testing.assert_allclose(
            received[name], expected[name], rtol=1e-5, atol=1e-5
        )
    assert len(received["losses"]) == 20
    return received["losses"]


def assert_guarded(folder, expected):
    """Guarded rules hand over alike, and only where they should."""
    for name in ("good", "bad"):
        losses = assert_close(folder / f"{name}.npz", expected / f"{name}.npz")
        assert losses[-1] < losses[0]
        alone = np.load(folder / f"{name}_without_loss.npz")
        assert alone["sizes"][-1] < {"good": 0.2, "bad": 1.0}[name]
        for remarks in (
            np.load(folder / f"{name}.npz")["remarks"],
            alone["remarks"],
        ):
            # Others are of steps with gradients that are not finite.
            told = [r[:40] for r in remarks if "handed over" in r]
            assert told == (
                ["SGD handed over to Adam at step 11: for "]
                if name == "bad"
                else []
            )


@pytest.mark.skipif(not INSTALLED, reason="make backends installs them")
def test_trajectory_and_files_are_those_of_tensorflow(tmp_path):
    # Of all backends in one test: what TensorFlow does takes as long as theirs.
    here = train(tmp_path, "tensorflow")
    for backend in INSTALLED:
        there = train(tmp_path, backend, here)
        assert_same_results(here, there)
        train(tmp_path, "tensorflow", there)
        assert_close(here / f"from_{backend}.npz", there / "continued.npz")


def assert_same_results(here, there):
    losses = assert_close(there / "trained.npz", here / "trained.npz")
    assert losses[-1] < 0.6 * losses[0]
    assert_close(there / "mixed.npz", here / "mixed.npz")
    for name in PRESETS:
        expected = np.load(here / f"{name}.npz")["losses"]
        received = np.load(there / f"{name}.npz")["losses"]
        # They magnify rounding; what is wrong shows in the first digits.
        np.testing.assert_allclose(received, expected, rtol=0.005)
        assert received[-1] < received[0]
    for name in ("celo", "celo_adam", "celo2"):
        losses = assert_close(there / f"{name}.npz", here / f"{name}.npz")
        # Random weights may go anywhere.
        if celo_data.PUBLISHED.exists():
            assert losses[-1] < losses[0]
    assert_guarded(there, here)
    assert_close(there / "from_tensorflow.npz", here / "continued.npz")


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize(
    "module",
    [
        "rules/every_backend",
        pytest.param("optimizer/floatx", marks=pytest.mark.slow),
        "presets/forged",
        "optimizer/skipped_steps",
    ],
)
def test_what_holds_on_tensorflow_holds_elsewhere(backend, module):
    # Without conftest.py, which needs TensorFlow's backend.
    done = run(
        backend, "-m", "pytest", "--noconftest", f"tests/{module}_test.py"
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("backend", OTHERS)
def test_what_needs_tensorflow_says_so(backend):
    code = """
import sys
sys.modules["tensorflow"] = None
import keras_l2l
for statement in sys.argv[1:]:
    try:
        exec(statement)
    except RuntimeError as error:
        print(error)
"""
    statements = [
        "keras_l2l.meta_train",
        "from keras_l2l import evaluation",
        "keras_l2l.export",
        "keras_l2l.tasks",
    ]
    done = run(backend, "-c", code, *statements)
    messages = done.stdout.splitlines()
    assert len(messages) == len(statements), done.stderr
    for message in messages:
        assert "must run on Keras' TensorFlow backend. Received: " in message
        assert "KERAS_BACKEND=tensorflow" in message


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
def test_jax_fit_notices_changed_meta_parameters():
    code = """
import keras, numpy, keras_l2l
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(keras_l2l.LearnedOptimizer(), "mse")
x, y = numpy.ones((8, 3)), numpy.ones((8, 1))
def moved():
    before = model.get_weights()[0]
    model.fit(x, y, verbose=0)
    return abs(model.get_weights()[0] - before).max()
print(moved() > 0.001)
for variable in keras.tree.flatten(model.optimizer.meta_params["output"]):
    variable.assign(0.0 * variable)
print(moved() == 0)
"""
    assert run("jax", "-c", code).stdout.split() == ["True", "True"]


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
def test_jax_says_why_a_layer_cannot_be_frozen_after_fit():
    code = """
import keras, numpy, keras_l2l
from keras_l2l import presets, rules
def freeze(optimizer):
    layers = [keras.layers.Dense(2), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, "mse")
    x, y = numpy.ones((8, 3)), numpy.ones((8, 1))
    model.fit(x, y, verbose=0)
    layers[0].trainable = False
    try:
        model.fit(x, y, verbose=0)
    except Exception as error:
        print(error)
freeze(keras.optimizers.Adam())
guard = presets.guarded("l2l_digits_mlp")
for arguments in (
    {},
    {"rule": guard},
    {"rule": rules.SGD(), "use_ema": True},
    {"horizon": 5, "gradient_accumulation_steps": 2},
):
    freeze(keras_l2l.LearnedOptimizer(**arguments))
"""
    done = run("jax", "-c", code)
    expected, *received = done.stdout.splitlines()
    assert "optimizer was built with 4 variables" in expected, done.stderr
    assert received == [expected] * 4


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
def test_jax_sees_a_loss_where_it_applies_the_gradients():
    code = """
import jax, keras, keras_l2l
from jax import numpy as jnp
from keras_l2l import rules
def optimizer_and_state():
    rule = rules.Guarded(rules.SGD(0.1))
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    variable = keras.Variable(3.0)
    optimizer.build([variable])
    return optimizer, [variable.value], [v.value for v in optimizer.variables]
def shown_within(scale_within, scale_after):
    optimizer, params, state = optimizer_and_state()
    @jax.jit
    def step(params, state):
        def loss_of(param):
            loss = param ** 2
            return optimizer.scale_loss(loss) if scale_within else loss
        loss, gradient = jax.value_and_grad(loss_of)(params[0])
        if scale_after:
            optimizer.scale_loss(loss)
        return optimizer.stateless_apply(state, [gradient], params)
    for _ in range(2):
        params, state = step(params, state)
    for variable, value in zip(optimizer.variables, state):
        variable.assign(value)
    (parts,) = optimizer._pack_state(optimizer._state)
    return float(parts["monitor"]["average"])
print(shown_within(True, False), shown_within(False, True))
def shown_elsewhere(jit_loss):
    optimizer, params, state = optimizer_and_state()
    if jit_loss:
        loss_of = jax.jit(lambda param: optimizer.scale_loss(param ** 2))
        _, gradient = jax.value_and_grad(loss_of)(params[0])
        optimizer.apply([gradient])
    else:
        optimizer.scale_loss(jnp.asarray(9.0))
        jax.jit(optimizer.stateless_apply)(state, [params[0]], params)
for jit_loss in (True, False):
    try:
        shown_elsewhere(jit_loss)
    except ValueError as error:
        print(error)
optimizer = keras_l2l.LearnedOptimizer(
    rule=rules.CeloAdam(20), gradient_accumulation_steps=2
)
try:
    optimizer.scale_loss(jnp.asarray(9.0))
    optimizer.apply([jnp.ones(())], [keras.Variable(3.0)])
except ValueError as error:
    print(error)
"""
    done = run("jax", "-c", code)
    averages, *refused, accumulated = done.stdout.splitlines()
    # 3 and 3 - 0.1 * 6, squared.
    expected = (9 + 2.4**2) / 2
    assert list(map(float, averages.split())) == pytest.approx([expected] * 2)
    assert len(refused) == 2
    for message in refused:
        assert "Call optimizer.scale_loss(loss) where optimizer.app" in message
    assert "`gradient_accumulation_steps` cannot see in JAX" in accumulated
