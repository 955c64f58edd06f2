"""Checkpoints with checksums, without pickle.

A checkpoint is one file, `<step>-<digest>.npz`, that appears at once and under
the SHA-256 of its content. A process may die at any moment: a file that was cut
off, changed or swapped is noticed before it is read.
"""

import hashlib
import json
import os
import pathlib
import re
import warnings

import numpy as np

from keras_l2l.utils import files
from keras_l2l.utils import npz

_NAME = re.compile(r"(\d{8,})-([0-9a-f]{32})\.npz")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or not one of this run."""


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        directory: Path of the folder, which need not exist.
        keep: Int, how many of the newest to keep.
    """

    def __init__(self, directory, keep=3):
        self._directory = pathlib.Path(directory)
        self._keep = keep

    def steps(self):
        """Returns the steps of which there is a checkpoint, in order."""
        return [step for step, _ in self._found()]

    def save(self, step, arrays, progress):
        """Writes a checkpoint, then removes the oldest of too many.

        Args:
            step: Int.
            arrays: Dict of NumPy arrays.
            progress: JSON-able dict; floats come back bit by bit.
        """
        text = json.dumps(progress).encode()
        arrays = {**arrays, "progress": np.frombuffer(text, np.uint8)}
        self._directory.mkdir(parents=True, exist_ok=True)
        with files.unfinished_folder(self._directory) as folder:
            path = folder / "checkpoint.npz"
            with path.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                # Else a power failure may leave a name without its content.
                os.fsync(file.fileno())
            name = f"{step:08d}-{_digest(path)}.npz"
            os.replace(path, self._directory / name)
        # Of the same step there may be one that was damaged.
        for other, path in self._found():
            if other == step and path.name != name:
                path.unlink(missing_ok=True)
        for _, path in self._found()[: -self._keep]:
            if path.name != name:
                path.unlink(missing_ok=True)

    def load(self, step):
        """Returns the `(arrays, progress)` of one checkpoint.

        Raises:
            CheckpointError: if there is none of this step, or it is damaged.
        """
        paths = [path for found, path in self._found() if found == step]
        if not paths:
            raise CheckpointError(
                f"There must be a checkpoint of step {step} in "
                f"{self._directory}. Received: steps {self.steps()}."
            )
        return _read(paths[-1])

    def load_latest(self):
        """Returns `(arrays, progress)` of the newest good checkpoint.

        Warns of each damaged one that it skips. Returns `None` if there is
        none.

        Raises:
            CheckpointError: if all are damaged.
        """
        found = self._found()
        for _, path in reversed(found):
            try:
                return _read(path)
            except CheckpointError as error:
                warnings.warn(
                    f"{error} The one before is used instead.", stacklevel=2
                )
        if found:
            raise CheckpointError(
                f"One checkpoint in {self._directory} must be whole. "
                f"Received: {len(found)} damaged ones. To start from the "
                "beginning, use another folder or delete these files."
            )
        return None

    def _found(self):
        """Returns pairs of a step and a path, in order."""
        if not self._directory.is_dir():
            return []
        matches = [
            (_NAME.fullmatch(path.name), path)
            for path in self._directory.iterdir()
        ]
        return sorted((int(m[1]), path) for m, path in matches if m)


def _read(path):
    try:
        digest = _digest(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error}.") from error
    expected = _NAME.fullmatch(path.name)[2]
    if digest != expected:
        raise CheckpointError(
            f"{path} is damaged: the content of that name has the SHA-256 "
            f"{expected}..., this one has {digest}..."
        )
    try:
        with path.open("rb") as file:
            arrays = npz.load(file)
    except ValueError as error:
        raise CheckpointError(f"In {path}: {error}") from error
    return arrays, json.loads(arrays.pop("progress").tobytes())


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
