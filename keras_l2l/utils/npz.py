"""Safe reading of `.npz` files that may be damaged or malicious."""

import io
import math
import zipfile

import numpy as np


def load(file):
    """Returns the dict of arrays in a file written by `np.savez`.

    Nothing in the file is executed, and no more memory is allocated than the
    size of the file.

    Args:
        file: Seekable binary file.

    Raises:
        ValueError: if it is not such a file, or holds pickled objects.
    """
    try:
        size = file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > size:
                raise ValueError("a directory of more than the file holds")
            for member in members:
                _check(archive, member)
        file.seek(0)
        with np.load(file, allow_pickle=False) as npz:
            return {name: npz[name] for name in npz.files}
    except Exception as error:
        # The readers of ZIP files and headers raise various errors.
        raise ValueError(
            "It must be an .npz file of plain arrays, not compressed and "
            f"without pickled objects. Received: {error or type(error)}"
        ) from error


def _check(archive, member):
    """Raises ValueError unless the size of a member matches its header."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{member.filename} has the version {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} needs allow_pickle=False")
        if (
            min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize
            != member.file_size - file.tell()
        ):
            raise ValueError(f"{member.filename} is not as large as it says")
