import types

import pytest

from keras_l2l import runs
from keras_l2l.checkpoints import CheckpointError
from keras_l2l.saved_run import SavedRun


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
    runs.write_json(folder / "history.json", {"meta_loss": [1.0, 2.0]})


def write_other_history(folder):
    runs.write_json(folder / "history.json", {})


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
