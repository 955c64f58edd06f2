"""What a run writes: whole or not at all, and never over other files."""

import contextlib
import json
import math
import os
import pathlib
import platform
import subprocess
import tempfile

import keras
import numpy as np

import keras_l2l


def require_empty(directory):
    """Returns a folder's `Path`, refusing one that already holds something.

    Raises:
        FileExistsError: if the folder holds files, or the path is a file.
    """
    directory = pathlib.Path(directory)
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise FileExistsError(
            "The output folder must be new or empty. Received: "
            f"{str(directory)!r}, which holds something. Choose another "
            "folder, or move that one away first."
        )
    return directory


def require_new(path):
    """Returns a file's `Path`, refusing one that already exists.

    Raises:
        FileExistsError: if the path exists.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(
            f"The output file must be new. Received: {str(path)!r}, which "
            "exists. Choose another name, or move that file away first."
        )
    return path


@contextlib.contextmanager
def new_folder(directory):
    """Yields a folder to fill, which becomes `directory` once it is filled.

    Nobody ever sees half a folder, and where filling it raises, none is left.

    Raises:
        FileExistsError: if `directory` holds something.
    """
    directory = require_empty(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        folder = pathlib.Path(temporary) / directory.name
        folder.mkdir()
        yield folder
        os.replace(folder, directory)


def to_json(content):
    """Returns JSON as bytes; non-finite numbers become null."""
    return (json.dumps(_finite(content), indent=2) + "\n").encode()


def read_json(path):
    """Returns the dict in a JSON file.

    Raises:
        ValueError: if the file is not JSON, or holds something else.
    """
    try:
        content = json.loads(pathlib.Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} must be JSON. Received: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a JSON object. Received: a "
            f"{type(content).__name__}"
        )
    return content


def write_json(path, content):
    """Writes JSON so that nobody ever sees half a file."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        finished = pathlib.Path(temporary) / path.name
        finished.write_bytes(to_json(content))
        os.replace(finished, path)


def versions():
    """Returns the versions that a result depends on, JSON-able."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "keras": keras.version(),
        keras.backend.backend(): _backend_version(),
        "keras_l2l": keras_l2l.__version__,
        "commit": _commit(),
    }


def _backend_version():
    return __import__(keras.backend.backend()).__version__


def _commit():
    """Returns the commit of this checkout; None for an installed package."""
    root = pathlib.Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    git = subprocess.run(
        ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return git.stdout.strip() or None


def _finite(content):
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, (np.ndarray, np.generic)):
        return _finite(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
