"""Files of arrays, damaged at random and on purpose."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from keras_l2l.utils import npz

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.array(1, "int8")}


def saved(arrays=ARRAYS):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_arrays_come_back():
    arrays = npz.load(io.BytesIO(saved()))
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_damaged_files_are_refused_or_small():
    refused = 0
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        data = bytearray(saved())
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if seed % 4 == 0:
            del data[rng.integers(len(data)) :]
        try:
            arrays = npz.load(io.BytesIO(data))
        except ValueError as error:
            assert "must be an .npz file" in str(error)
            refused += 1
        else:
            assert sum(a.nbytes for a in arrays.values()) <= len(data)
    assert 500 < refused < 2000


def forge_size(data, size):
    """Returns the file with another size of its first member."""
    data = bytearray(data)
    central = data.index(b"PK\x01\x02")
    for offset in (20, 24):
        struct.pack_into("<I", data, central + offset, size)
    return bytes(data)


def with_header(text):
    header = text.encode() + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
        archive.writestr("a.npy", magic + header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        forge_size(saved(), 2**31),
        with_header("{'descr': '<f8', 'fortran_order': 0, 'shape': (9**9,)}"),
        with_header("{'descr': '<f8', 'fortran_order': 0>1, 'shape': (-1,)}"),
        with_header("{'descr': '|O', 'fortran_order': False, 'shape': (0,)}"),
        with_header("{'descr': '"),
        with_header("  {\n {"),
        with_header("__import__('os')"),
        b"",
        b"no ZIP file",
    ],
)
def test_forged_files_are_refused_before_they_allocate(data):
    tracemalloc.start()
    with pytest.raises(ValueError, match="must be an .npz file"):
        npz.load(io.BytesIO(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
