"""Atomic writing of files and folders, which never overwrites others."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import warnings

from keras_l2l.utils import configurations

UNFINISHED = ".unfinished_"


def require_empty(directory):
    """Returns the `Path` of a folder that must be new or empty.

    Raises:
        FileExistsError: if the folder holds files, or the path is a file.
    """
    directory = pathlib.Path(directory)
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise FileExistsError(
            "The output folder must be new or empty. Received: "
            f"{str(directory)!r}, which is not empty. Choose another folder, "
            "or move that one away first."
        )
    return directory


def require_new(path):
    """Returns the `Path` of a file that must not exist.

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
    """Yields a temporary folder that becomes `directory` when it is complete.

    No other process sees an incomplete folder. If an error is raised, nothing
    is left.

    Raises:
        FileExistsError: if `directory` is not empty.
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

    Files in it are moved to their place when they are complete.
    """
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=UNFINISHED
    ) as temporary:
        yield pathlib.Path(temporary)


def remove_unfinished(parent):
    """Removes the `unfinished_folder`s of killed processes in `parent`.

    Folders in `parent` are not searched, since they may be those of other runs.
    """
    for path in parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def to_json(content):
    """Returns JSON as bytes, with null for numbers that are not finite."""
    content = configurations.plain(content)
    return (json.dumps(content, indent=2) + "\n").encode()


def read_json(path):
    """Returns the dict in a JSON file.

    Raises:
        ValueError: if the file is not JSON, or holds something else.
    """
    return from_json(pathlib.Path(path).read_bytes(), path)


def from_json(content, name):
    """Returns the dict in bytes of JSON. `name` is for the error message.

    Raises:
        ValueError: if the bytes are not JSON, or hold something else.
    """
    try:
        content = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON. Received: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{name} must hold a JSON object. Received: a "
            f"{type(content).__name__}"
        )
    return content


def write_json(path, content):
    """Writes a JSON file atomically."""
    write(path, to_json(content))


def write(path, content):
    """Writes a file of bytes atomically."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(path.parent) as temporary:
        finished = temporary / path.name
        finished.write_bytes(content)
        os.replace(finished, path)


def write_new(path, content):
    """Writes bytes to a file that `require_new` has checked.

    If it was created meanwhile, a number is added to the name, with a warning,
    so that hours of work are not lost.

    Returns:
        `Path` of the file.
    """
    path = wanted = pathlib.Path(path)
    number = 1
    while path.exists():
        number += 1
        path = wanted.with_stem(f"{wanted.stem}_{number}")
    write(path, content)
    if path != wanted:
        warnings.warn(
            f"{wanted} was written by another process meanwhile, and stays as "
            f"it is. This result is in {path}.",
            stacklevel=2,
        )
    return path
