import types

import pytest

from keras_l2l.meta_training import run_folder
from keras_l2l.meta_training.checkpoints import CheckpointError
from keras_l2l.meta_training.run_folder import SavedRun
from keras_l2l.utils import files


class Chief:
    """A chief that records what it tells."""

    is_chief = True

    def __init__(self):
        self.told = []

    def from_chief(self, number):
        self.told.append(number)
        return number


class Worker:
    is_chief = False

    def __init__(self, told):
        self._told = iter(told)

    def from_chief(self, number):
        assert number == 0
        return next(self._told)


def restore(folder, replicas):
    run = types.SimpleNamespace(replicas=replicas)
    recorder = types.SimpleNamespace(meta_steps=2)
    return SavedRun(folder, run, recorder, digest=1).restore()


def damage(folder):
    (folder / "checkpoints").mkdir()
    name = f"00000008-{'0' * 32}.npz"
    (folder / "checkpoints" / name).write_bytes(b"")


def finish(folder):
    files.write_json(folder / "history.json", {"meta_loss": [1.0, 2.0]})


def write_other_history(folder):
    files.write_json(folder / "history.json", {})


def write_no_history(folder):
    (folder / "history.json").write_text("no JSON")


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize(
    "spoil, error",
    [
        (damage, CheckpointError),
        (finish, CheckpointError),
        (write_other_history, KeyError),
        (write_no_history, ValueError),
    ],
)
def test_where_the_chief_can_not_go_on_all_workers_raise(
    tmp_path, spoil, error
):
    spoil(tmp_path)
    chief = Chief()
    with pytest.raises(error):
        restore(tmp_path, chief)
    assert chief.told == [-1]
    with pytest.raises(ValueError, match="a chief that could not"):
        restore(tmp_path, Worker(chief.told))


def test_all_start_where_there_is_nothing(tmp_path):
    chief = Chief()
    assert restore(tmp_path, chief) == 0
    assert restore(tmp_path, Worker(chief.told)) == 0


def test_a_run_is_alone_in_its_folder(tmp_path):
    with run_folder.alone_in(tmp_path / "run"):
        # Another process would find the same: the lock is that of the opened
        # folder.
        with pytest.raises(FileExistsError, match="another process"):
            with run_folder.alone_in(tmp_path / "run"):
                pass
    with run_folder.alone_in(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []


def test_only_leftovers_of_the_run_itself_are_removed(tmp_path):
    config = {"seed": 0, "versions": {}}
    (tmp_path / "run" / ".unfinished_1").mkdir(parents=True)
    run_folder.open_folder(tmp_path / "run", config, resume=True)
    (tmp_path / "run" / "checkpoints" / ".unfinished_2").mkdir(parents=True)
    other = tmp_path / "run" / "nested" / "run" / ".unfinished_3"
    other.mkdir(parents=True)
    (tmp_path / ".unfinished_4").mkdir()

    def left():
        return {path.name for path in tmp_path.rglob(".unfinished_*")}

    with pytest.raises(FileExistsError):
        run_folder.open_folder(tmp_path, config, resume=True)
    with pytest.raises(ValueError, match="seed: 0 -> 1"):
        run_folder.open_folder(
            tmp_path / "run", {**config, "seed": 1}, resume=True
        )
    assert left() == {".unfinished_2", ".unfinished_3", ".unfinished_4"}
    run_folder.open_folder(tmp_path / "run", config, resume=True)
    assert left() == {".unfinished_3", ".unfinished_4"}
