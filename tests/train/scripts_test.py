"""Each script in a process of its own, for a few steps."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import celo_data
import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

import keras_l2l
from train import ablate
from train import benchmark
from train.benchmarks import first_step


def succeed(script, *flags):
    done = forked.run(script, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with one short run on prepared data."""
    folder = tmp_path_factory.mktemp("scripts")
    output = succeed(
        "meta_train",
        f"--data_dir={folder}/data",
        f"--output_dir={folder}/run",
        "--horizon=4",
        "--unroll_length=2",
        "--meta_steps=3",
        "--meta_batch_size=2",
        "--validation_episodes=2",
    )
    assert f"{folder}/run/preset" in output
    return folder


def test_the_scripts_end_to_end(workplace):
    evaluate = (
        "evaluate",
        f"--data_dir={workplace}/data",
        "--horizon=2",
        "--seeds=2",
        "--tuning_seeds=1",
    )
    output = succeed(
        *evaluate,
        f"--preset={workplace}/run/preset",
        f"--output={workplace}/run/evaluation.json",
    )
    assert "learned" in output and "nag" in output
    evaluation = json.loads((workplace / "run" / "evaluation.json").read_text())
    assert evaluation["task"] == "l2l_digits_mlp"
    assert evaluation["results"][0]["optimizer"] == "learned"
    succeed(
        *evaluate,
        "--preset=l2l_digits_mlp",
        f"--baselines={workplace}/run/evaluation.json",
        f"--output={workplace}/other.json",
    )
    other = json.loads((workplace / "other.json").read_text())
    assert other["results"][1:] == evaluation["results"][1:]
    assert other["results"][1]["optimizer"] == "adam_default"
    assert other["results"][0] != evaluation["results"][0]
    succeed(
        *evaluate,
        "--preset=l2l_digits_mlp",
        f"--preset={workplace}/run/preset",
        "--split=train",
        "--tuned=sgd",
        f"--output={workplace}/both.json",
    )
    both = json.loads((workplace / "both.json").read_text())
    names = [r["optimizer"] for r in both["results"]]
    assert names[:3] == ["l2l_digits_mlp", "preset", "adam_default"]
    assert set(names[3:]) == {"sgd"}
    assert (both["split"], both["tuning_split"]) == ("train", "train")
    assert not set(both["seeds"]) & set(both["tuning_seeds"])
    assert all(0 <= r["test_accuracy"] <= 1 for r in both["results"])
    assert [*both["presets"]] == names[:2]
    succeed(
        "plot",
        f"--input={workplace}/run/evaluation.json",
        f"--output={workplace}/run/curves.png",
    )
    assert (workplace / "run" / "curves.png").stat().st_size > 10_000
    output = succeed(
        "fit",
        f"--data_dir={workplace}/data",
        f"--preset={workplace}/run/preset",
        "--epochs=1",
    )
    assert "Test loss" in output


def test_a_run_on_quadratics_and_another_rule(tmp_path):
    succeed(
        "meta_train",
        "--task=quadratics",
        "--rule=adam",
        f"--output_dir={tmp_path}/run",
        "--horizon=4",
        "--unroll_length=4",
        "--meta_steps=2",
        "--second_derivatives",
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["rule"]["class_name"] == "keras_l2l>Adam"
    assert config["estimator"]["config"]["second_derivatives"] is True


LONG = (
    "--task=quadratics",
    "--rule=lstm_raw",
    "--horizon=4",
    "--unroll_length=2",
    "--meta_steps=1000000",
)


@pytest.mark.slow
def test_sigterm_saves_and_says_how_to_go_on(tmp_path):
    flags = [*LONG, f"--output_dir={tmp_path}/run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train.meta_train", *flags],
        cwd=forked.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not list(tmp_path.glob("run/checkpoints/*.npz")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    command = shlex.join(["python", "-m", "train.meta_train", *flags])
    assert errors.rstrip().endswith(f"{command} --resume")
    assert "Traceback" not in errors
    # The command is right: it finds the run, and refuses to change it.
    done = forked.run("meta_train", *flags, "--resume", "--seed=1")
    assert "seed: 0 -> 1" in done.stderr


@pytest.mark.slow
def test_a_full_disk_ends_in_one_message_and_loses_nothing(tmp_path):
    code = "import resource, runpy, sys; resource.setrlimit("
    code += "resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    code += "runpy.run_module('train.meta_train', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, *LONG, f"--output_dir={tmp_path}/run"],
        cwd=forked.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    (message,) = re.findall("^error: .*", done.stderr, re.MULTILINE)
    assert "File too large" in done.stderr
    assert str(tmp_path / "run") in message and "{{" not in message
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())
    assert not list(tmp_path.rglob("*.npz"))
    assert not list(tmp_path.rglob(".unfinished_*"))


def test_check_looks_at_a_task_and_writes_nothing(tmp_path):
    output = succeed(
        "meta_train",
        "--task=quadratics",
        "--rule=adam",
        "--check",
        "--horizon=4",
        "--unroll_length=2",
        f"--output_dir={tmp_path}/run",
    )
    report = json.loads(output)
    assert report["params"] == 10
    assert report["remarks"] == []
    assert not (tmp_path / "run").exists()


def test_export_of_a_rule_and_of_a_training_step(tmp_path):
    succeed(
        "export",
        "--preset=l2l_digits_mlp",
        f"--output={tmp_path}/exported/rule",
    )
    loaded = tf.saved_model.load(tmp_path / "exported" / "rule")
    update, _ = loaded.update(tf.constant([1.0, -1.0]), loaded.initial_state(2))
    assert update[0] < 0 < update[1]

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras_l2l.LearnedOptimizer(), loss)
    x, y = np.ones((4, 3), "float32"), np.array([0, 1, 1, 1])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "batch.npz", x=x, y=y)
    output = succeed(
        "export",
        f"--model={tmp_path}/model.keras",
        f"--batch={tmp_path}/batch.npz",
        f"--output={tmp_path}/exported/step",
    )
    assert f"{tmp_path}/exported/step" in output
    loaded = tf.saved_model.load(tmp_path / "exported" / "step")
    for _ in range(2):
        model.reset_metrics()
        expected = model.train_on_batch(x, y)
        assert float(loaded.train_step(x, y)["loss"]) == expected


def test_convert_celo(tmp_path):
    source = celo_data.file("celo")
    output = succeed(
        "convert_celo", f"--input={source}", f"--output_dir={tmp_path}/celo"
    )
    assert f"{tmp_path}/celo" in output
    optimizer = keras_l2l.LearnedOptimizer.from_preset(
        tmp_path / "celo", num_steps=9
    )
    assert optimizer.rule.num_steps == 9


@pytest.mark.slow
def test_benchmark_of_the_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(first_step, "MEASURED", [("mlp", 1), ("mlp", 2)])
    with flagsaver.flagsaver():
        benchmark.define_flags()
        flags.FLAGS(["benchmark", "--repeats=1", f"--output={tmp_path}/a.json"])
        benchmark.main()
    flags.FLAGS.unparse_flags()
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["replicas"] for row in rows] == [1, 2]
    assert all(row["learned_first_s"] > row["learned_second_s"] for row in rows)
    assert "adam_first_s" in capsys.readouterr().out


@pytest.mark.slow
def test_ablations_are_a_run_each(tmp_path, monkeypatch, capsys):
    quick = ("--task=quadratics", "--meta_steps=4", "--validation_interval=2")
    monkeypatch.setattr(ablate, "BASE", quick)
    variants = {"as it is": (), "other rate": ("--meta_learning_rate=0.1",)}
    monkeypatch.setattr(ablate, "VARIANTS", variants)
    with flagsaver.flagsaver():
        ablate.define_flags()
        flags.FLAGS(["ablate", f"--output_dir={tmp_path}"])
        ablate.main()
        # What is there is not done again.
        before = (tmp_path / "as_it_is/history.json").stat()
        ablate.main()
    flags.FLAGS.unparse_flags()
    assert (tmp_path / "as_it_is/history.json").stat() == before
    found = json.loads((tmp_path / "ablations.json").read_text())
    first, second = found["rows"]
    assert first["variant"] == "as it is" and first["flags"] == "-"
    assert second["flags"] == "--meta_learning_rate=0.1"
    assert first["final_loss"] != second["final_loss"]
    config = json.loads((tmp_path / "other_rate/config.json").read_text())
    assert config["meta_optimizer"]["learning_rate"] == 0.1
    assert "--meta_learning_rate=0.1" in capsys.readouterr().out
