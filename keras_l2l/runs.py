"""What a run writes: whole or not at all, and never over other files."""

import contextlib
import json
import math
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
import warnings

import keras
import numpy as np

import keras_l2l

_UNFINISHED = ".unfinished_"


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


def start(directory, config, resume):
    """Returns the folder of a run, in which `config.json` describes it.

    Args:
        directory: Path.
        config: JSON-able dict. Its `"versions"` may differ on resuming, with
            a warning.
        resume: Bool, whether a run that the folder holds goes on. There need
            be none.

    Raises:
        FileExistsError: if the folder holds something that does not go on.
        ValueError: if it holds a run of another configuration.
    """
    directory = pathlib.Path(directory)
    path = directory / "config.json"
    if resume and directory.is_dir():
        remove_unfinished(directory)
    if not (resume and path.exists()):
        require_empty(directory)
        write_json(path, config)
        return directory
    old, new = read_json(path), json.loads(to_json(config))
    changed = differences(old.pop("versions", None), new.pop("versions", None))
    if changed:
        warnings.warn(
            "The results may differ in their last bits from those of an "
            f"uninterrupted run: {'; '.join(changed)}.",
            stacklevel=3,
        )
    require_same(old, new)
    return directory


def require_same(old, new):
    """Raises unless a configuration is the one that a run was started with.

    Raises:
        ValueError: with all differences.
    """
    changed = differences(old, json.loads(to_json(new)))
    if changed:
        raise ValueError(
            "A run must go on with the configuration in its config.json. "
            f"Received: {'; '.join(changed)}. Use the old values, or start a "
            "new run in another folder."
        )


def differences(old, new):
    """Returns in what two JSON-able nests differ, as a list of strings.

    The numbers that Keras appends to the names of layers count models of a
    process, and are no difference.
    """
    old, new = (dict(_named_values(nest)) for nest in (old, new))
    stems = _stems(old), _stems(new)
    return [
        f"{name}: {old.get(name, 'nothing')} -> {new.get(name, 'nothing')}"
        for name in dict.fromkeys([*old, *new])
        if stems[0].get(old.get(name), old.get(name))
        != stems[1].get(new.get(name), new.get(name))
        or (name in old) != (name in new)
    ]


def _named_values(nest, name=""):
    if isinstance(nest, dict) and nest:
        children = nest.items()
    elif isinstance(nest, list) and nest:
        children = enumerate(nest)
    else:
        yield name, str(nest)
        return
    for key, child in children:
        yield from _named_values(child, f"{name}.{key}" if name else str(key))


def _stems(values):
    """Returns a dict from each name of a layer to one without its count."""
    names = dict.fromkeys(
        value for key, value in values.items() if key.split(".")[-1] == "name"
    )
    return {
        name: f"{re.sub(r'_[0-9]+$', '', name)} {i}"
        for i, name in enumerate(names)
    }


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
    with unfinished_folder(directory.parent) as temporary:
        folder = temporary / directory.name
        folder.mkdir()
        yield folder
        os.replace(folder, directory)


@contextlib.contextmanager
def unfinished_folder(parent):
    """Yields a temporary folder inside `parent`, on the same file system.

    What is written there is moved to its place once it is whole.
    """
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=_UNFINISHED
    ) as temporary:
        yield pathlib.Path(temporary)


def remove_unfinished(parent):
    """Removes what killed processes left of `unfinished_folder` in `parent`."""
    for path in pathlib.Path(parent).rglob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)


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
    with unfinished_folder(path.parent) as temporary:
        finished = temporary / path.name
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
