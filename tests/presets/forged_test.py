"""Presets that were damaged, or made to do harm."""

import hashlib
import io
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import presets
from keras_l2l.utils import files

MUTATIONS = 200


@pytest.fixture
def preset(tmp_path):
    rule = keras_l2l.CoordinatewiseLSTM(units=(3,))
    folder = tmp_path / "preset"
    presets.save_preset(rule, rule.init_meta_params(0), folder)
    return folder


def _flip(data, rng):
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)


def _cut(data, rng):
    del data[rng.integers(len(data)) :]


def _repeat(data, rng):
    start, end = sorted(rng.integers(len(data), size=2))
    data[start:start] = data[start:end]


def _overwrite(data, rng):
    start = rng.integers(len(data))
    data[start : start + 8] = rng.bytes(8)


def test_fuzzed_files_are_refused_or_change_nothing(preset, tmp_path):
    rule, meta_params, _ = presets.load_preset(preset)
    refused = 0
    for seed in range(MUTATIONS):
        rng = np.random.default_rng(seed)
        folder = shutil.copytree(preset, tmp_path / str(seed))
        path = sorted(folder.iterdir())[seed % 3]
        data = bytearray(path.read_bytes())
        mutate = (_flip, _cut, _repeat, _overwrite)[seed // 3 % 4]
        mutate(data, rng)
        path.write_bytes(data)
        try:
            received, values, _ = presets.load_preset(folder)
        except presets.PresetError as error:
            assert str(folder) in str(error)
            refused += 1
            continue
        assert received.get_config() == rule.get_config()
        for a, b in zip(
            keras.tree.flatten(values),
            keras.tree.flatten(meta_params),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    assert MUTATIONS / 2 < refused < MUTATIONS


def forge(folder, config=None, npz=None):
    """Replaces files of a preset, with digests that are right."""
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if npz is not None:
        (folder / "meta_params.npz").write_bytes(npz)
    metadata = files.read_json(folder / "metadata.json")
    metadata["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("config.json", "meta_params.npz")
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))


def npz_with_header(header):
    """Returns an .npz file whose one array has a header and few bytes."""
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, header)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("output/bias.npy", array.getvalue())
    return content.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        {"descr": "<f4", "fortran_order": False, "shape": (10**15,)},
        {"descr": "<f4", "fortran_order": False, "shape": (2**62, 4)},
        {"descr": "<f4", "fortran_order": False, "shape": (-1,)},
        {"descr": "|O", "fortran_order": False, "shape": (1,)},
    ],
    ids=str,
)
def test_forged_headers_allocate_nothing(preset, header):
    forge(preset, npz=npz_with_header(header))
    with pytest.raises(presets.PresetError):
        presets.load_preset(preset)


@pytest.mark.parametrize(
    "change",
    [
        {"units": [10**9]},
        {"units": [10**5, 10**5]},
        {"units": [2**80]},
        {"units": "20"},
        {"p": "large"},
        {"p": 1e400},
        {"output_scale": -1},
        {"preprocessing": "__import__('os')"},
        {"other": 1},
    ],
    ids=str,
)
def test_forged_configurations_allocate_nothing(preset, change):
    config = files.read_json(preset / "config.json")
    config["config"].update(change)
    forge(preset, config=config)
    with pytest.raises(presets.PresetError):
        presets.load_preset(preset)


def test_forged_classes_are_not_imported(preset):
    forge(
        preset,
        config={
            "module": "os",
            "class_name": "system",
            "config": {"command": "true"},
            "registered_name": None,
        },
    )
    with pytest.raises(presets.PresetError):
        presets.load_preset(preset)


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": ["keras_l2l>Adam"], "config": {}},
        {"class_name": "keras_l2l>Partition", "config": {}},
        {"class_name": "keras_l2l>Partition", "config": {"members": 3}},
        {
            "class_name": "keras_l2l>Partition",
            "config": {"members": [[{}, {}]], "default": {}},
        },
        {"class_name": "keras_l2l>Adam", "config": None},
    ],
    ids=str,
)
def test_forged_structures_are_refused(preset, config):
    forge(preset, config=config)
    with pytest.raises(presets.PresetError):
        presets.load_preset(preset)


def test_files_of_a_preset_do_not_lead_out_of_it(preset, tmp_path):
    # A link to another file with the right digest is still another file.
    (tmp_path / "elsewhere.npz").write_bytes(
        (preset / "meta_params.npz").read_bytes()
    )
    (preset / "meta_params.npz").unlink()
    (preset / "meta_params.npz").symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(presets.PresetError, match="outside"):
        presets.load_preset(preset)
