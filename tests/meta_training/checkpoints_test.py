import shutil
import warnings

import numpy as np
import pytest

from keras_l2l.meta_training import checkpoints
from keras_l2l.meta_training.checkpoints import Checkpoints


def content(step):
    """What a checkpoint of this step holds."""
    rng = np.random.default_rng(step)
    arrays = {
        "meta_params/0": rng.normal(size=(3, 4)).astype("float32"),
        "episodes/0": np.array(2**40 + step),
        "empty": np.zeros((0, 2)),
    }
    losses = [0.1 + step, float("nan"), float("inf")]
    return arrays, {"meta_step": step, "losses": losses}


def assert_is(received, step):
    arrays, progress = content(step)
    assert received[0].keys() == arrays.keys()
    for name, array in arrays.items():
        assert received[0][name].dtype == array.dtype
        np.testing.assert_array_equal(received[0][name], array)
    np.testing.assert_equal(received[1], progress)


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints."""
    saved = Checkpoints(tmp_path / "checkpoints")
    for step in (2, 4, 6):
        saved.save(step, *content(step))
    return tmp_path / "checkpoints"


def newest(folder):
    return sorted(folder.iterdir())[-1]


def test_the_newest_are_kept_and_come_back(tmp_path):
    saved = Checkpoints(tmp_path / "new", keep=2)
    assert saved.steps() == []
    assert saved.load_latest() is None
    for step in (2, 4, 100_000_000):
        saved.save(step, *content(step))
        assert_is(saved.load_latest(), step)
    assert saved.steps() == [4, 100_000_000]
    assert len(list((tmp_path / "new").iterdir())) == 2
    assert_is(saved.load(4), 4)


def _flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def _cut(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: rng.integers(len(data))])


def _extend(path, rng):
    path.write_bytes(path.read_bytes() + rng.bytes(rng.integers(1, 9)))


def _overwrite(path, rng):
    data = bytearray(path.read_bytes())
    start = rng.integers(len(data) - 16)
    data[start : start + 16] = rng.bytes(16)
    path.write_bytes(data)


def _swap(path, rng):
    other = sorted(path.parent.iterdir())[0]
    path.write_bytes(other.read_bytes())


def _delete(path, rng):
    path.unlink()


def _folder(path, rng):
    path.unlink()
    path.mkdir()


DAMAGES = [
    *[(_flip, i) for i in range(25)],
    *[(_cut, i) for i in range(12)],
    *[(_extend, i) for i in range(3)],
    *[(_overwrite, i) for i in range(6)],
    *[(function, 0) for function in (_swap, _delete, _folder)],
    (lambda path, rng: path.write_bytes(b""), 0),
]


def test_there_are_enough_damages():
    assert len(DAMAGES) >= 50


@pytest.mark.parametrize(
    "damage, seed",
    DAMAGES,
    ids=[f"{f.__name__}{i}" for f, i in DAMAGES],
)
def test_damaged_newest_falls_back_with_a_warning(folder, damage, seed):
    path = newest(folder)
    damage(path, np.random.default_rng(seed))
    saved = Checkpoints(folder)
    if damage is _delete:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_is(saved.load_latest(), 4)
        return
    with pytest.warns(UserWarning, match=path.name):
        assert_is(saved.load_latest(), 4)
    with pytest.raises(checkpoints.CheckpointError, match=path.name):
        saved.load(6)


def test_all_damaged_is_an_error_and_leaves_the_files(folder):
    for path in folder.iterdir():
        _flip(path, np.random.default_rng(0))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with (
        pytest.warns(UserWarning),
        pytest.raises(checkpoints.CheckpointError, match="3 damaged"),
    ):
        Checkpoints(folder).load_latest()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_missing_step_is_named(folder):
    with pytest.raises(checkpoints.CheckpointError, match=r"\[2, 4, 6\]"):
        Checkpoints(folder).load(5)


def test_foreign_files_are_left_alone(folder):
    (folder / "notes.txt").write_text("mine")
    shutil.copy(newest(folder), folder / "copy.npz")
    saved = Checkpoints(folder, keep=1)
    saved.save(8, *content(8))
    assert saved.steps() == [8]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "copy.npz").exists()


def test_pickles_are_never_loaded(tmp_path):
    # The digest is right, so this is what a forged file would be.
    saved = Checkpoints(tmp_path)
    arrays = {"x": np.array([object], dtype=object)}
    saved.save(1, arrays, {})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        saved.load(1)


def test_failed_save_leaves_what_was_there(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = sorted(p.name for p in folder.iterdir())
    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space"):
        Checkpoints(folder).save(8, *content(8))
    assert sorted(p.name for p in folder.iterdir()) == before
