"""The versions that a result depends on."""

import pathlib
import platform
import subprocess

import keras
import numpy as np

from keras_l2l import version


def versions():
    """Returns the versions that a result depends on, JSON-able."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "keras": keras.version(),
        keras.backend.backend(): _backend_version(),
        "keras_l2l": version.__version__,
        "commit": _commit(),
    }


def _backend_version():
    return __import__(keras.backend.backend()).__version__


def _commit():
    """Returns the commit of this checkout; None for an installed package."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = subprocess.run(
        ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return git.stdout.strip() or None
