import forked
import pytest
from absl import flags
from absl.testing import flagsaver

import keras_l2l
from keras_l2l.presets import named_arrays
from keras_l2l.utils import files
from train import experiments
from train import meta_flags
from train import registry
from train import stages as stages_lib


@pytest.fixture
def parse():
    """Parses flags of train.meta_train, which are gone when the test ends."""
    with flagsaver.flagsaver():
        meta_flags.define_flags()

        def parse(*given):
            flags.FLAGS(["meta_train", *given])
            return flags.FLAGS

        yield parse
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("name", sorted(experiments.EXPERIMENTS))
def test_flags_of_each_stage_are_set_unless_given(name, parse):
    values = parse(
        f"--experiment={name}", "--output_dir=new", "--meta_batch_size=3"
    )
    for stage in stages_lib.stages_of(values):
        stages_lib.set_missing(stage)
        for flag, value in stage.items():
            if flag in values and flag != "meta_batch_size":
                assert values[flag].value == value, flag
        assert values.meta_batch_size == 3


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
    experiment = experiments.EXPERIMENTS[name]
    for stage in experiment.stages:
        flags = {**experiment.flags, **stage}
        unroll_length = flags.get("unroll_length", 20)
        horizon = flags.get("horizon", 100)
        assert horizon % unroll_length == 0
        unroll_length = min(unroll_length, experiments.QUICK_UNROLL_LENGTH)
        quick = min(horizon, experiments.QUICK_UNROLLS * unroll_length)
        assert quick % unroll_length == 0


def test_quick_sets_what_only_it_does(parse):
    values = parse("--experiment=neural_art", "--quick", "--output_dir=new")
    first, second = stages_lib.stages_of(values)
    for stage in (first, second):
        assert stage["dataset"] == "l2l_patches/32"
        assert stage["meta_steps"] == experiments.QUICK["meta_steps"]
    # What a stage says beside it, stays.
    assert "meta_learning_rate" not in experiments.QUICK
    assert second["meta_learning_rate"] == 0.002
    assert first["meta_learning_rate"] == 0.004


@pytest.mark.slow
def test_one_command_reproduces_an_experiment(tmp_path):
    done = forked.run(
        "reproduce",
        "--experiment=quadratics",
        "--quick",
        "--unroll_length=50",
        f"--output_dir={tmp_path}/run",
    )
    assert done.returncode == 0, done.stderr
    config = files.read_json(tmp_path / "run" / "config.json")
    # The flag that is given wins over the experiment's and over --quick's.
    assert config["estimator"]["config"]["unroll_length"] == 50
    assert config["meta_steps"] == experiments.QUICK["meta_steps"]
    assert config["meta_batch_size"] == 8
    evaluation = files.read_json(tmp_path / "run" / "evaluation_base.json")
    assert len(evaluation["seeds"]) == 2 and evaluation["horizon"] == 10
    assert (tmp_path / "run" / "curves_base.png").stat().st_size > 10_000


@pytest.mark.slow
def test_stages_go_on_from_each_other(tmp_path):
    flags = [
        "--experiment=mnist",
        "--dataset=l2l_digits",
        "--quick",
        "--meta_batch_size=1",
        "--meta_steps=3",
        f"--output_dir={tmp_path}/run",
    ]
    done = forked.run("meta_train", *flags)
    assert done.returncode == 0, done.stderr
    first, last = (
        files.read_json(tmp_path / f"run/stage_{i}/config.json") for i in (1, 3)
    )
    # Of the last stage, of none, of the first, and as given.
    found = [
        (
            stage["meta_optimizer"]["learning_rate"],
            stage["meta_optimizer"]["clipnorm"],
            stage["estimator"]["config"]["sampled_coordinates"],
        )
        for stage in (first, last)
    ]
    assert found == [(0.004, 1.0, None), (0.001, 1.0, 2048)]
    assert (first["meta_batch_size"], last["meta_batch_size"]) == (1, 1)
    kept, of_last = (
        files.read_json(tmp_path / f"run/{name}/metadata.json")
        for name in ("preset", "stage_3/preset")
    )
    assert kept == of_last
    assert "meta_params_sha256" not in first
    loaded = keras_l2l.presets.load_preset(tmp_path / "run/stage_2/preset")
    _, expected = named_arrays.checked(loaded.rule, loaded.meta_params)
    assert last["meta_params_sha256"] == expected
    # Nothing is overwritten; what is finished is not done again.
    refused = forked.run("meta_train", *flags)
    assert refused.returncode == 1 and "new or empty" in refused.stderr
    resumed = forked.run("meta_train", *flags, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert kept == files.read_json(tmp_path / "run/preset/metadata.json")
