import subprocess
import sys

import pytest

from keras_l2l import runs
from train import experiments
from train import registry


@pytest.mark.parametrize("name", sorted(experiments.EXPERIMENTS))
def test_what_an_experiment_names_is_there(name):
    experiment = experiments.EXPERIMENTS[name]
    assert experiment.flags["task"] in registry.TASKS
    assert experiment.flags["rule"] in registry.RULES
    assert {test.task for test in experiment.tests.values()} <= {
        *registry.TASKS
    }


@pytest.mark.parametrize("name", sorted(experiments.EXPERIMENTS))
def test_quick_episodes_are_of_whole_unrolls(name):
    flags = experiments.EXPERIMENTS[name].flags
    unroll_length = flags.get("unroll_length", 20)
    horizon = flags.get("horizon", 100)
    quick = min(horizon, experiments.QUICK_UNROLLS * unroll_length)
    assert horizon % unroll_length == quick % unroll_length == 0


def test_one_command_reproduces_an_experiment(tmp_path):
    command = [
        sys.executable,
        "-m",
        "train.reproduce",
        "--experiment=quadratics",
        "--quick",
        "--unroll_length=50",
        f"--output_dir={tmp_path}/run",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = runs.read_json(tmp_path / "run" / "config.json")
    # The flag that is given wins over the experiment's and over --quick's.
    assert config["unroll_length"] == 50
    assert config["meta_steps"] == experiments.QUICK["meta_steps"]
    assert config["meta_batch_size"] == 8
    evaluation = runs.read_json(tmp_path / "run" / "evaluation_base.json")
    assert len(evaluation["seeds"]) == 2 and evaluation["horizon"] == 20
    assert (tmp_path / "run" / "curves_base.png").stat().st_size > 10_000
