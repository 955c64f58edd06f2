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
HANDED_OVER = "SGD handed over to Adam at step 11: for "
ALLOCATING = "test_forged_configurations_allocate_nothing"
MODULES = (
    "other_backends.py",
    "rules/every_backend_test.py",
    # The one whose tensors a backend might allocate.
    f"presets/forged_test.py::{ALLOCATING}",
    "optimizer/skipped_steps_test.py",
)
FLOATX = "optimizer/floatx_test.py"
# The one that differs between backends.
BFLOAT16 = f"{FLOATX}::test_a_step[default-bfloat16]"
MONITOR = "callbacks/update_monitor_test.py"


def case(backend, *modules, slow=False):
    """Returns modules to test in one process: each imports for seconds."""
    missing = pytest.mark.skipif(
        backend not in INSTALLED,
        reason=f"{backend} is not installed: make backends",
    )
    return pytest.param(
        *(backend, modules),
        marks=[missing, pytest.mark.slow] if slow else missing,
        id=f"{'slow_' * slow}modules-{backend}",
    )


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
    losses = assert_close(folder / "bad.npz", expected / "bad.npz")
    assert losses[-1] < losses[0]
    for name, below, told in (
        ("bad", None, [HANDED_OVER]),
        ("bad_without_loss", 1.0, [HANDED_OVER]),
        ("good_without_loss", 0.2, []),
    ):
        found = np.load(folder / f"{name}.npz")
        # Others are of steps with gradients that are not finite.
        remarks = [r[:40] for r in found["remarks"] if "handed over" in r]
        assert remarks == told
        assert below is None or found["sizes"][-1] < below


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
    losses = assert_close(there / "celos.npz", here / "celos.npz")
    # Random weights may go anywhere.
    if celo_data.PUBLISHED.exists():
        assert losses[-1] < losses[0]
    assert_guarded(there, here)
    assert_close(there / "from_tensorflow.npz", here / "continued.npz")


@pytest.mark.parametrize(
    "backend, modules",
    [
        # A monitor's variables are carried along on JAX alone.
        case("jax", *MODULES, MONITOR, BFLOAT16),
        case("torch", *MODULES, "utils/tracing_test.py", BFLOAT16),
        case("jax", FLOATX, slow=True),
        case("torch", FLOATX, MONITOR, slow=True),
    ],
)
def test_what_holds_elsewhere(backend, modules):
    # Without conftest.py, which needs TensorFlow's backend.
    done = run(
        backend,
        *("-m", "pytest", "--noconftest"),
        *(f"tests/{module}" for module in modules),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for module in modules:
        path, _, _ = module.partition("::")
        assert re.search(rf"tests/{path} .*\.", done.stdout)
