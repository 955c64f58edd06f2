import pickle

import celo_data
import msgpack
import numpy as np
import pytest
from celo_data import array

from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.presets import celo_weights


@pytest.fixture
def write(tmp_path):
    """Writes a changed copy of the file and returns its path."""

    def write(change, name="celo"):
        content = celo_data.file(name).read_bytes()
        nest = msgpack.unpackb(content)
        content = change(nest)
        if not isinstance(content, bytes):
            content = msgpack.packb(nest)
        path = tmp_path / "theta.state"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    "name, number", [("celo", 35803), ("celo_adam", 35649), ("celo2", 329)]
)
@pytest.mark.parametrize("file", [celo_data.file, celo_data.random_file])
def test_a_preset_of_every_weight(file, name, number, tmp_path):
    path = file(name)
    presets.convert_celo(path, tmp_path / "preset")
    preset = presets.load_preset(tmp_path / "preset")
    rule, meta_params = celo_weights.read(path)
    assert type(preset.rule) is type(rule)
    assert preset.rule.num_steps is None
    assert rules.count_params(meta_params) == number
    with pytest.raises(FileExistsError):
        presets.convert_celo(path, tmp_path / "preset")


def test_unchanged_is_read(write):
    celo_weights.read(write(lambda nest: None))


def test_more_and_less(write):
    def more(nest):
        nest["rnn_params"]["new"] = array([1.0])

    def less(nest):
        del nest["rnn_params"]["linear_1"]["b"]

    def other_shape(nest):
        nest["rnn_params"]["step_size"]["w"] = array(np.ones((1, 64)))

    def a_string(nest):
        nest["rnn_params"]["step_size"]["w"] = "ones"

    for change, message in (
        (more, "also rnn_params/new"),
        (less, r"linear_1/b: expected \(64,\), received nothing"),
        (other_shape, r"step_size/w: expected \(64, 1\), received \(1, 64\)"),
        (a_string, r"step_size/w: expected \(64, 1\), received nothing"),
    ):
        with pytest.raises(presets.PresetError, match=message):
            celo_weights.read(write(change))


def test_another_npz_than_that_of_celo2(tmp_path):
    arrays = dict(np.load(celo_data.file("celo2")))
    path = tmp_path / "weights.npz"
    for change, message in (
        ({"new": np.ones(1)}, "also new"),
        ({"hidden.bias": np.ones(4)}, r"hidden.bias: expected \(8,\)"),
        ({"hidden.bias": np.array([None] * 8)}, "allow_pickle=False"),
    ):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(presets.PresetError, match=message):
            celo_weights.read(path)


def test_what_is_no_such_file(write, tmp_path):
    bias = [0.0]

    def of(value):
        def change(nest):
            nest["rnn_params"]["step_size"]["b"] = value

        return change

    for change in (
        lambda nest: b"",
        lambda nest: b"no msgpack at all",
        lambda nest: pickle.dumps({"rnn_params": 1}),
        lambda nest: msgpack.packb([1, 2]),
        lambda nest: msgpack.packb(nest)[:-5],
        lambda nest: msgpack.packb(nest) + b"more",
        of(msgpack.ExtType(2, b"")),
        of(msgpack.ExtType(1, b"")),
        of(msgpack.ExtType(1, msgpack.packb([1, 2]))),
        of(msgpack.ExtType(1, msgpack.packb([7, "float32", b""]))),
        of(array(bias, "float64")),
        of(array([1], "int32")),
        of(array(bias, shape=[2])),
        of(array(bias, shape=[-1])),
        of(array(bias, shape=[1.0])),
    ):
        with pytest.raises(presets.PresetError, match="`theta.state` of Celo"):
            celo_weights.read(write(change))
    with pytest.raises(FileNotFoundError):
        celo_weights.read(tmp_path / "nothing")


def test_values_that_are_not_finite(write, tmp_path):
    def change(nest):
        nest["rnn_params"]["step_size"]["b"] = array([np.nan])

    with pytest.raises(presets.PresetError, match="finite"):
        presets.convert_celo(write(change), tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "theta.state"
    with path.open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(presets.PresetError, match="10000000 bytes at most"):
        celo_weights.read(path)
