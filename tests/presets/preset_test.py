import hashlib
import html
import json
import zipfile

import keras
import numpy as np
import pytest
from conftest import assert_same
from conftest import leaves

import keras_l2l
from keras_l2l import evaluation
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.presets import named_arrays
from keras_l2l.presets import preset as preset_lib


@pytest.fixture
def preset(tmp_path, small_lstm):
    """A valid preset folder."""
    folder = tmp_path / "preset"
    presets.save_preset(small_lstm, small_lstm.init_meta_params(4), folder)
    return folder


def set_checksum(path):
    """Makes the checksum of a changed file right, as a foreign tool would."""
    metadata = json.loads((path.parent / "metadata.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    metadata["sha256"][path.name] = digest
    (path.parent / "metadata.json").write_text(json.dumps(metadata))


def rewrite_npz(folder, save):
    """Replaces the arrays and their checksum."""
    save(folder / "meta_params.npz")
    set_checksum(folder / "meta_params.npz")


def arrays_of(folder):
    with np.load(folder / "meta_params.npz") as npz:
        return dict(npz)


def test_round_trip_is_exact(preset, small_lstm):
    rule, meta_params, _ = presets.load_preset(preset)
    assert rule.get_config() == small_lstm.get_config()
    expected = leaves(small_lstm.init_meta_params(4))
    assert_same(meta_params, expected)
    assert sorted(p.name for p in preset.iterdir()) == [
        "config.json",
        "meta_params.npz",
        "metadata.json",
    ]


def test_optimizer_round_trip_is_exact(preset, tmp_path):
    optimizer = keras_l2l.LearnedOptimizer.from_preset(
        preset, learning_rate=0.5
    )
    assert float(optimizer.learning_rate) == 0.5
    optimizer.save_to_preset(tmp_path / "again")
    for name, array in arrays_of(preset).items():
        np.testing.assert_array_equal(
            arrays_of(tmp_path / "again")[name], array
        )


@pytest.mark.parametrize("name", ["hf", "kaggle"])
def test_a_folder_may_be_named_like_a_hub(name, preset, monkeypatch):
    preset.rename(preset.with_name(name))
    monkeypatch.chdir(preset.parent)
    assert keras_l2l.LearnedOptimizer(rule=name).preset == name


def test_saving_never_overwrites(preset, small_lstm):
    before = {p.name: p.read_bytes() for p in preset.iterdir()}
    with pytest.raises(FileExistsError, match="new or empty"):
        presets.save_preset(small_lstm, small_lstm.init_meta_params(0), preset)
    assert {p.name: p.read_bytes() for p in preset.iterdir()} == before


def test_a_failed_save_leaves_nothing(tmp_path, small_lstm):
    with pytest.raises(presets.PresetError):
        presets.save_preset(
            small_lstm, rules.SGD().init_meta_params(0), tmp_path / "preset"
        )
    assert list(tmp_path.iterdir()) == []


def test_no_such_preset():
    with pytest.raises(presets.PresetError, match="l2l_digits_mlp"):
        presets.load_preset("nope")


@pytest.mark.parametrize(
    "name", [["l2l_networks"], {}, 3, None, [np.zeros(2000)] * 2000]
)
def test_what_is_no_name_of_a_preset(name):
    expected = f"must be one of .*of type {type(name).__name__}"
    with pytest.raises(presets.PresetError, match=expected) as error:
        keras_l2l.LearnedOptimizer.from_preset(name)
    assert len(str(error.value)) < 500
    if name is not None:
        with pytest.raises(ValueError, match=f"type {type(name).__name__}"):
            keras_l2l.LearnedOptimizer(rule=name)


@pytest.mark.parametrize(
    "name", ["config.json", "meta_params.npz", "metadata.json"]
)
def test_missing_file(preset, name):
    (preset / name).unlink()
    with pytest.raises(presets.PresetError, match=f"has no {name}"):
        presets.load_preset(preset)


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\xff"])
def test_foreign_json(preset, name, content):
    (preset / name).write_text(content)
    with pytest.raises(presets.PresetError, match=name):
        presets.load_preset(preset)


def test_truncated_arrays(preset):
    path = preset / "meta_params.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(presets.PresetError, match="damaged"):
        presets.load_preset(preset)


def write_truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def write_pickle(path):
    np.savez(path, **{"lstm_0/kernel": np.array([{"a": 1}], dtype=object)})


def write_pickle_alone(path):
    np.array([{"a": 1}], dtype=object).dump(path)


def write_zip_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("lstm_0/kernel.npy", "text")


@pytest.mark.parametrize(
    "save",
    [
        write_truncated,
        write_pickle,
        write_pickle_alone,
        write_zip_of_text,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04" + b"\x00" * 50),
    ],
    ids=["truncated", "pickle in npz", "pickle", "text", "empty", "zeros"],
)
def test_foreign_arrays_with_a_fitting_checksum(preset, save):
    rewrite_npz(preset, save)
    with pytest.raises(presets.PresetError, match=r"must be an \.npz"):
        presets.load_preset(preset)


def test_wrong_shapes_and_names_are_named(preset):
    arrays = arrays_of(preset)
    arrays["lstm_0/kernel"] = arrays["lstm_0/kernel"][:, :3]
    arrays["extra"] = arrays.pop("output/bias")
    rewrite_npz(preset, lambda path: np.savez(path, **arrays))
    with pytest.raises(presets.PresetError) as error:
        presets.load_preset(preset)
    for part in (
        "lstm_0/kernel: expected (2, 16), received (2, 3)",
        "output/bias: expected (1,), received nothing",
        "extra: expected nothing, received (1,)",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_meta_parameters(preset, value):
    arrays = arrays_of(preset)
    arrays["output/bias"][0] = value
    rewrite_npz(preset, lambda path: np.savez(path, **arrays))
    with pytest.raises(presets.PresetError, match="finite"):
        presets.load_preset(preset)


def test_config_of_another_class(preset):
    (preset / "config.json").write_text(
        json.dumps({"class_name": "os>system", "config": {"command": "ls"}})
    )
    set_checksum(preset / "config.json")
    with pytest.raises(presets.PresetError, match="Registered rules"):
        presets.load_preset(preset)


def test_presets_are_shown_as_a_table():
    shown = keras_l2l.LearnedOptimizer.presets
    first, *others = repr(shown).splitlines()
    assert first == f"{presets.DEFAULT}, the default"
    for text in (repr(shown), shown._repr_html_(), shown.to_markdown()):
        assert "where it loses" in text and "10,000" in text
        for name in presets.shipped():
            card = json.loads(
                (preset_lib._SHIPPED / name / "card.json").read_text()
            )
            for key in ("use_for", "cost", "loses"):
                assert html.escape(card[key]) in text or card[key] in text
    assert shown._repr_html_().count("<tr>") == len(presets.shipped()) + 1


def test_shipped_presets_have_cards_and_load():
    assert presets.DEFAULT in presets.shipped()
    for name, description in presets.shipped().items():
        assert len(description) > 20
        rule, meta_params, _ = presets.load_preset(name)
        _, sha256 = named_arrays.checked(rule, meta_params)
        card = json.loads(
            (preset_lib._SHIPPED / name / "card.json").read_text()
        )
        assert card["limits"] and card["command"] and card["evaluations"]
        for stage in card["meta_training"]:
            assert {"task", "horizon", "seed", "versions", "seconds"} <= {
                *stage,
                *stage.get("config", []),
            }
        for evaluation_ in card["evaluations"]:
            assert evaluation_["meta_params_sha256"] == sha256
    # Its docstring says what it was trained for.
    assert presets.DEFAULT in keras_l2l.LearnedOptimizer.__doc__


def test_a_loaded_preset_scores_what_the_saved_one_did(preset, tmp_path):
    # To the last digit, after a way through every kind of file.
    optimizer = keras_l2l.LearnedOptimizer.from_preset(preset)
    optimizer.save_to_preset(tmp_path / "again")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    config = loaded.get_config()
    curves = [
        evaluation.training_curves(
            make, tasks.Quadratics(3), horizon=30, split="test", seeds=[0, 1]
        )
        for make in (
            lambda: keras_l2l.LearnedOptimizer.from_preset(preset),
            lambda: keras_l2l.LearnedOptimizer.from_preset(tmp_path / "again"),
            lambda: keras_l2l.LearnedOptimizer.from_config(config),
        )
    ]
    assert np.isfinite(curves[0]).all()
    for other in curves[1:]:
        np.testing.assert_array_equal(other, curves[0])


def test_a_run_that_was_stopped_has_no_preset(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(presets.PresetError, match="stopped.*resume=True"):
        presets.load_preset(tmp_path / "preset")
