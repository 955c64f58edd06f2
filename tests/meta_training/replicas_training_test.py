"""Meta-training over several devices and several processes."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import one_run
import pytest
import tensorflow as tf
from conftest import leaves

import keras_l2l
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import tasks
from keras_l2l.meta_training.replicas import Replicas
from keras_l2l.utils import files

ROOT = pathlib.Path(__file__).parents[2]
SHORT = {
    "meta_steps": 12,
    "validation": meta_training.Validation(interval=4, episodes=2),
    "meta_batch_size": 4,
}


def wait_for_a_checkpoint(folder, processes):
    deadline = time.time() + 120
    while not list(folder.glob("checkpoints/*.npz")):
        assert all(p.poll() is None for p in processes)
        assert time.time() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def workers(number, *flags):
    """Starts local worker processes; ends what is left of them."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    distribute = "workers" if number > 1 else "none"
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "train.meta_train",
                "--task=quadratics",
                "--rule=lstm_raw",
                "--horizon=4",
                "--unroll_length=2",
                "--meta_batch_size=4",
                f"--distribute={distribute}",
                *flags,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def finish(processes):
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors


def result(folder):
    """Returns the history and the meta-parameters of a run."""
    meta_params = presets.load_preset(folder / "preset").meta_params
    return files.read_json(folder / "history.json"), leaves(meta_params)


def keep_checkpoint_8(folder):
    for path in (folder / "checkpoints").iterdir():
        if not path.name.startswith("00000008"):
            path.unlink()


def test_mirrored_equals_one_device_and_one_device_goes_on(tmp_path, strategy):
    alone = one_run.train(tmp_path / "one", **SHORT)
    two = one_run.train(tmp_path / "two", strategy=strategy, **SHORT)
    keep_checkpoint_8(tmp_path / "two")
    resumed = one_run.train(tmp_path / "two", **SHORT)
    assert resumed.history["meta_loss"][:8] == two.history["meta_loss"][:8]
    assert len(set(alone.history["meta_loss"])) == 12
    for other in (two, resumed):
        np.testing.assert_allclose(
            other.history["meta_loss"], alone.history["meta_loss"], rtol=1e-6
        )
        for a, b in zip(
            leaves(other.meta_params), leaves(alone.meta_params), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_mirrored_run_goes_on_exactly(tmp_path, strategy):
    two = one_run.train(tmp_path / "two", strategy=strategy, **SHORT)
    keep_checkpoint_8(tmp_path / "two")
    again = one_run.train(tmp_path / "two", strategy=strategy, **SHORT)
    assert again.history["meta_loss"] == two.history["meta_loss"]
    for a, b in zip(
        leaves(again.meta_params), leaves(two.meta_params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_two_workers_equal_one_process(tmp_path):
    flags = ["--meta_steps=10", "--validation_episodes=2"]
    with workers(2, *flags, f"--output_dir={tmp_path}/two") as processes:
        finish(processes)
    # In this process, with the flags of the others.
    config = files.read_json(tmp_path / "two" / "config.json")
    keras_l2l.meta_train(
        task=tasks.Quadratics(**config["task"]["config"]),
        output_dir=tmp_path / "one",
        verbose=0,
        **meta_training.arguments_of(config),
    )
    (two, params), (one, expected) = (
        result(tmp_path / name) for name in ("two", "one")
    )
    np.testing.assert_allclose(two["meta_loss"], one["meta_loss"], rtol=1e-6)
    for a, b in zip(params, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    # The chief alone wrote, and wrote the same things.
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        p.name for p in (tmp_path / "one").iterdir()
    }


@pytest.mark.slow
def test_a_lost_worker_ends_the_others_and_one_goes_on_alone(tmp_path):
    flags = ["--meta_steps=600", f"--output_dir={tmp_path}/run"]
    with workers(2, *flags) as processes:
        wait_for_a_checkpoint(tmp_path / "run", processes)
        processes[1].kill()
        _, errors = processes[0].communicate(timeout=120)
    assert processes[0].returncode == 1
    assert "error: A worker was lost" in errors
    assert "Received: Collective ops is aborted" in errors
    assert "--resume" in errors and "Traceback" not in errors
    with workers(1, *flags, "--resume") as processes:
        finish(processes)
    history, _ = result(tmp_path / "run")
    assert len(history["meta_loss"]) == 600


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_stops_all(tmp_path):
    flags = ["--meta_steps=100000", f"--output_dir={tmp_path}/run"]
    with workers(2, *flags) as processes:
        wait_for_a_checkpoint(tmp_path / "run", processes)
        processes[1].terminate()
        errors = [p.communicate(timeout=120)[1] for p in processes]
    for process, message in zip(processes, errors, strict=True):
        assert process.returncode == 128 + signal.SIGTERM, message
        assert "--resume" in message and "Traceback" not in message
    # Both tell of the same meta-step, which the last checkpoint is of.
    (step,) = {re.search(r"after (\d+) meta", e)[1] for e in errors}
    last = max(p.name for p in tmp_path.glob("run/checkpoints/*.npz"))
    assert last.startswith(f"{int(step):08d}-")


@pytest.mark.parametrize(
    "of_chief, message",
    [(-1, "chief that could not"), (12, "others than the chief's")],
)
def test_workers_of_different_minds_stop(
    tmp_path, monkeypatch, of_chief, message
):
    monkeypatch.setattr(Replicas, "from_chief", lambda *_: of_chief)
    init = Replicas.__init__

    def init_worker(self, strategy):
        init(self, strategy)
        self.is_chief = False

    monkeypatch.setattr(Replicas, "__init__", init_worker)
    with pytest.raises(ValueError, match=message):
        one_run.train(tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


def test_tensors_of_all_dtypes_are_gathered(strategy):
    dtypes = "float16 bfloat16 float64 uint8 uint32 int64".split()
    items = [
        {name: tf.cast([0.0, 1.5 + i], name) for name in dtypes}
        | {"bool": tf.constant([True, i == 0])}
        for i in range(4)
    ]
    for each in (None, strategy):
        replicas = Replicas(each)
        gathered = replicas.gather(replicas.divide(lambda item: item, items))
        for received, expected in zip(gathered, items, strict=True):
            for name, tensor in expected.items():
                assert received[name].dtype == tensor.dtype
                np.testing.assert_array_equal(received[name], tensor)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"meta_batch_size": 3},
            "must be a multiple of the number of replicas",
        ),
        ({"strategy": "mirrored"}, "must be a tf.distribute.Strategy"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, strategy, arguments, message):
    with pytest.raises(ValueError, match=message):
        one_run.train(
            tmp_path / "run", **{**SHORT, "strategy": strategy, **arguments}
        )
    assert not (tmp_path / "run").exists()


def test_a_call_in_a_scope_is_refused(tmp_path, strategy):
    with strategy.scope(), pytest.raises(ValueError, match="outside of a"):
        one_run.train(tmp_path / "run", tasks.Quadratics(3), **SHORT)
