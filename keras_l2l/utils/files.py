"""Files that are written whole or not at all, and never over others."""

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
        dir=parent, prefix=UNFINISHED
    ) as temporary:
        yield pathlib.Path(temporary)


def remove_unfinished(parent):
    """Removes what killed processes left of `unfinished_folder` in `parent`.

    Not what lies in folders of it, which may be those of other runs.
    """
    for path in parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def to_json(content):
    """Returns JSON as bytes; non-finite numbers become null."""
    content = configurations.plain(content)
    return (json.dumps(content, indent=2) + "\n").encode()


def read_json(path):
    """Returns the dict in a JSON file.

    Raises:
        ValueError: if the file is not JSON, or holds something else.
    """
    return from_json(pathlib.Path(path).read_bytes(), path)


def from_json(content, name):
    """Returns the dict that bytes of JSON are; `name` is for the error.

    Raises:
        ValueError: if they are not JSON, or something else.
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
    """Writes JSON so that nobody ever sees half a file."""
    write(path, to_json(content))


def write(path, content):
    """Writes bytes so that nobody ever sees half a file."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(path.parent) as temporary:
        finished = temporary / path.name
        finished.write_bytes(content)
        os.replace(finished, path)


def write_new(path, content):
    """Writes bytes to a file that is never one that exists.

    `require_new` refuses such a file before hours of work. If one has come
    since, the work is not lost: a number is added to the name, with a warning.

    Returns:
        `Path` of the file.
    """
    wanted = pathlib.Path(path)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    path, number = wanted, 1
    with unfinished_folder(wanted.parent) as temporary:
        finished = temporary / wanted.name
        finished.write_bytes(content)
        while not _put(finished, path):
            number += 1
            path = wanted.with_stem(f"{wanted.stem}_{number}")
    if path != wanted:
        warnings.warn(
            f"{wanted} was written by another process meanwhile, and stays as "
            f"it is. This result is in {path}.",
            stacklevel=2,
        )
    return path


def _put(finished, path):
    """Gives a whole file a name; returns whether the name was free."""
    try:
        os.link(finished, path)
    except FileExistsError:
        return False
    except OSError:  # There are no links on this file system.
        try:
            with path.open("xb") as file:
                file.write(finished.read_bytes())
        except FileExistsError:
            return False
    return True
