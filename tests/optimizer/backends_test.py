"""The same training on TensorFlow, JAX and PyTorch, where installed."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import celo_data
import numpy as np
import one_backend
import pytest

ROOT = pathlib.Path(__file__).parents[2]
INSTALLED = [n for n in ("jax", "torch") if importlib.util.find_spec(n)]
OF_TORCH = {"utils/tracing_test"}
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


def train(output, backend, other):
    """Runs one_backend.py; returns its folder."""
    folder = output / backend
    done = run(backend, "tests/one_backend.py", folder, other)
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
    here = tmp_path / "tensorflow"
    one_backend.main(here)
    for backend in INSTALLED:
        there = train(tmp_path, backend, here)
        assert_same_results(here, there)
        one_backend.main(here, there)
        assert_close(here / f"from_{backend}.npz", there / "continued.npz")


def assert_same_results(here, there):
    losses = assert_close(there / "trained.npz", here / "trained.npz")
    assert losses[-1] < 0.6 * losses[0]
    assert_close(there / "mixed.npz", here / "mixed.npz")
    for name in one_backend.PRESETS:
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
    "modules",
    [
        # In one process: each imports Keras and a backend for seconds.
        (
            "other_backends",
            "callbacks/update_monitor_test",
            "rules/every_backend_test",
            "presets/forged_test",
            "optimizer/skipped_steps_test",
            "utils/tracing_test",
        ),
        pytest.param(("optimizer/floatx_test",), marks=pytest.mark.slow),
    ],
    ids=["modules", "floatx"],
)
def test_what_holds_elsewhere(backend, modules):
    modules = [m for m in modules if backend == "torch" or m not in OF_TORCH]
    # Without conftest.py, which needs TensorFlow's backend.
    done = run(
        backend,
        *("-m", "pytest", "--noconftest"),
        *(f"tests/{module}.py" for module in modules),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for module in modules:
        assert re.search(rf"tests/{module}.py .*\.", done.stdout)
