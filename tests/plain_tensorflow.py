"""Runs code in a process that has neither Keras nor this package."""

import os
import subprocess
import sys

import numpy as np

PLAIN = """
import sys
sys.modules["keras"] = sys.modules["keras_l2l"] = None
import numpy as np
import tensorflow as tf
data = np.load("data.npz")
"""


def in_plain_tensorflow(code, folder, **arrays):
    """Runs code where Keras and this package can't be imported.

    It finds the arrays as `data`, and returns those that it saves as
    `results.npz`.
    """
    np.savez(folder / "data.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN + code],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "results.npz")
