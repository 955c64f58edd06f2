"""Runs that were stopped, killed or damaged end with the same bits."""

import random
import shutil
import signal
import time

import forked
import numpy as np
import one_run
import pytest
import tensorflow as tf
from conftest import leaves

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import tasks
from keras_l2l.meta_training.checkpoints import CheckpointError
from keras_l2l.meta_training.checkpoints import Checkpoints
from keras_l2l.meta_training.history import Recorder
from keras_l2l.meta_training.interruption import Interrupted
from keras_l2l.utils import files

pytestmark = pytest.mark.usefixtures("optimized_graphs")
SHORT = {
    "meta_steps": 24,
    "validation": meta_training.Validation(interval=6, episodes=2),
}


@pytest.fixture(autouse=True)
def interrupts():
    """SIGINT raises, also where the shell has started the tests without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def scalars(folder):
    """Returns all that TensorBoard shows, without speeds."""
    found = []
    for path in (folder / "logs").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag != "inner_steps_per_second":
                    number = tf.make_ndarray(value.tensor).item()
                    found.append((event.step, value.tag, number))
    return sorted(found)


def assert_same_run(folder, expected):
    results = []
    for path in (folder, expected):
        history = files.read_json(path / "history.json")
        assert history.pop("seconds") > 0
        meta_params = presets.load_preset(path / "preset").meta_params
        results.append((history, scalars(path), leaves(meta_params)))
    (history, logs, arrays), (expected_history, expected_logs, others) = results
    assert history == expected_history
    assert logs == expected_logs
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(folder.rglob(".unfinished_*"))
    # And what a further meta-step would start from.
    (arrays, _), (others, _) = (
        Checkpoints(path / "checkpoints").load_latest()
        for path in (folder, expected)
    )
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A folder with a short run."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    one_run.train(folder, **SHORT)
    return folder


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills, tmp_path):
    folder = tmp_path / "run"
    saved = Checkpoints(folder / "checkpoints")
    moments = random.Random(0)
    # Enough for as many kills.
    meta_steps = 300 + 60 * kills
    for kill in range(kills):
        known = saved.steps()[-1:]
        process = forked.context.Process(
            target=one_run.train_quickly, args=(folder, meta_steps)
        )
        process.start()
        if kill % 2:
            # While it starts: before, in and after the first trace.
            time.sleep(moments.uniform(0, 1.5))
        else:
            # While it runs: in meta-steps, validations and writes.
            deadline = time.monotonic() + 60
            while saved.steps()[-1:] == known and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert kills // 2 * 20 <= saved.steps()[-1] < meta_steps
    one_run.train_quickly(folder, meta_steps)
    one_run.train_quickly(tmp_path / "uninterrupted", meta_steps)
    assert_same_run(folder, tmp_path / "uninterrupted")


@pytest.mark.parametrize(
    "number, meta_step",
    [
        pytest.param(signal.SIGINT, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 8, marks=pytest.mark.slow),
        (signal.SIGTERM, 23),
    ],
)
def test_a_request_to_stop_waits_for_the_meta_step(
    tmp_path, monkeypatch, uninterrupted, number, meta_step
):
    record = Recorder.meta_step

    def interrupted(self, step, *arguments):
        record(self, step, *arguments)
        if step == meta_step:
            signal.raise_signal(number)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "meta_step", interrupted)
        with pytest.raises(Interrupted, match=f"after {meta_step + 1} meta"):
            one_run.train(tmp_path, **SHORT)
    assert handlers == [
        signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)
    ]
    assert Checkpoints(tmp_path / "checkpoints").steps()[-1] == meta_step + 1
    one_run.train(tmp_path, **SHORT)
    assert_same_run(tmp_path, uninterrupted)


def test_a_second_request_stops_at_once(tmp_path, monkeypatch):
    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Recorder, "meta_step", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        one_run.train(tmp_path, **SHORT)
    assert not isinstance(caught.value, Interrupted)


def test_a_finished_run_can_be_resumed(tmp_path, uninterrupted):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    one_run.train(folder, **SHORT)
    assert_same_run(folder, uninterrupted)
    # Killed after the preset was written, before the history was.
    (folder / "history.json").unlink()
    one_run.train(folder, **SHORT)
    assert_same_run(folder, uninterrupted)


def test_damaged_checkpoints_are_passed_over(tmp_path, uninterrupted):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    *_, newest = sorted((folder / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=newest.name):
        one_run.train(folder, **SHORT)
    assert_same_run(folder, uninterrupted)


def test_damaged_checkpoints_alone_are_an_error(tmp_path, uninterrupted):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="must be whole"),
    ):
        one_run.train(folder, **SHORT)
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path, uninterrupted):
    one_run.train(tmp_path / "run", **SHORT, seed=1)
    for path in tmp_path.glob("run/checkpoints/*"):
        path.unlink()
    shutil.copytree(
        uninterrupted / "checkpoints",
        tmp_path / "run" / "checkpoints",
        dirs_exist_ok=True,
    )
    with pytest.raises(CheckpointError, match="one of another"):
        one_run.train(tmp_path / "run", **SHORT, seed=1)


def test_a_finished_run_without_checkpoints_is_left_alone(
    tmp_path, uninterrupted
):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    with pytest.raises(CheckpointError, match="Restore them"):
        one_run.train(folder, **SHORT)
    after = sorted(path for path in folder.rglob("*") if path.is_file())
    assert after == before


def test_a_preset_keeps_the_files_that_a_user_adds(tmp_path, uninterrupted):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    (folder / "preset" / "notes.txt").write_text("precious")
    one_run.train(folder, **SHORT)
    assert (folder / "preset" / "notes.txt").read_text() == "precious"


def test_leftovers_of_killed_writes_are_removed(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    (folder / ".unfinished_x").mkdir(parents=True)
    (folder / ".unfinished_x" / "config.json").write_text("{")
    one_run.train(folder, **SHORT)
    assert_same_run(folder, uninterrupted)


def test_another_configuration_is_refused(tmp_path, uninterrupted):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for arguments, message in (
        ({"seed": 1}, "seed: 0 -> 1"),
        (
            {"meta_optimizer": meta_training.MetaOptimizer(clipnorm=None)},
            "meta_optimizer.clipnorm: 1.0 -> None",
        ),
        (
            {"estimator": estimators.PersistentES(unroll_length=2)},
            "estimator.class_name: TruncatedBackprop -> PersistentES",
        ),
        ({"horizon": 8, "meta_steps": 30}, "horizon: 6 -> 8; .*meta_steps"),
    ):
        with pytest.raises(ValueError, match=message):
            one_run.train(folder, **{**SHORT, **arguments})
    with pytest.raises(ValueError, match="task.name: .* -> quadratics"):
        keras_l2l.meta_train(
            one_run.UncompiledLSTM(), tasks.Quadratics(3), folder, resume=True
        )
    with pytest.raises(FileExistsError, match="new or empty.*resume=True"):
        one_run.train(folder, resume=False)
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before


def test_other_versions_are_a_warning(tmp_path, uninterrupted):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    config = files.read_json(folder / "config.json")
    config["versions"]["keras"] = "3.9.9"
    files.write_json(folder / "config.json", config)
    with pytest.warns(UserWarning, match="keras: 3.9.9 -> "):
        one_run.train(folder, **SHORT)
    assert_same_run(folder, uninterrupted)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="new or empty"):
        one_run.train(tmp_path, **SHORT)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
