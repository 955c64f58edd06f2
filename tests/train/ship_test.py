import shutil

import pytest

import keras_l2l
from keras_l2l import estimators
from keras_l2l import evaluation
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.presets import named_arrays
from keras_l2l.utils import files
from train import ship

TEXTS = {"description": "What.", "limits": "Not.", "command": "make it"}


@pytest.fixture
def run_dir(tmp_path):
    """A finished run with an evaluation."""
    keras_l2l.meta_train(
        rules.SGD(),
        tasks.Quadratics(2),
        tmp_path / "run",
        horizon=4,
        estimator=estimators.TruncatedBackprop(unroll_length=2),
        meta_steps=2,
        validation=meta_training.Validation(episodes=1),
        verbose=0,
    )
    preset = presets.load_preset(tmp_path / "run" / "preset")
    result = evaluation.evaluate(
        lambda: keras_l2l.LearnedOptimizer.from_preset(
            tmp_path / "run" / "preset"
        ),
        tasks.Quadratics(2),
        4,
        seeds=[0, 1],
        tuning_seeds=[0],
        learning_rates=[0.001, 0.01, 0.1],
        baselines={"sgd": evaluation.BASELINES["sgd"]},
    )
    _, sha256 = named_arrays.checked(preset.rule, preset.meta_params)
    files.write_json(
        tmp_path / "run" / "evaluation_base.json",
        {"meta_params_sha256": sha256, **result},
    )
    return tmp_path / "run"


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_a_card_says_how_it_was_made_and_how_good_it_is(run_dir):
    card = ship.make_card(run_dir, TEXTS)
    assert {name: card[name] for name in TEXTS} == TEXTS
    (stage,) = card["meta_training"]
    assert stage["config"]["horizon"] == 4 and stage["seconds"] > 0
    assert [v["meta_step"] for v in stage["validation"]] == [0, 2]
    (found,) = card["evaluations"]
    names = {result["optimizer"] for result in found["results"]}
    # Not SGD, which was tuned beside it.
    assert names == {"learned", "adam_default"}
    for result in found["results"]:
        assert "losses" not in result
        low, high = result["final_loss_ci95"]
        assert low <= result["final_loss"] <= high


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_an_evaluation_of_something_else_is_refused(run_dir):
    path = run_dir / "evaluation_base.json"
    content = files.read_json(path)
    path.unlink()
    files.write_json(path, {**content, "meta_params_sha256": "0" * 64})
    with pytest.raises(ValueError, match="must be of its preset.*base.json"):
        ship.make_card(run_dir, TEXTS)


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_a_card_tells_of_all_stages(run_dir):
    for name in ("stage_1", "stage_2"):
        (run_dir / name).mkdir()
        for file in ("config.json", "history.json"):
            shutil.copy(run_dir / file, run_dir / name)
    (run_dir / "config.json").unlink()
    card = ship.make_card(run_dir, TEXTS)
    assert [s["config"]["meta_steps"] for s in card["meta_training"]] == [2, 2]


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_a_card_says_what_networks_are_and_not_how_keras_makes_them(run_dir):
    network = {"model": {"layers": []}, "network": {"units": 3}}
    for name, change in (
        ("evaluation_base", {"task_config": network}),
        (
            "config",
            {
                "task": [
                    {"config": network},
                    {"config": {"model": "mine"}},
                    {"config": {"task": {"config": {"model": "varied"}}}},
                ],
                "validation": {"task": {"config": network}},
            },
        ),
    ):
        path = run_dir / f"{name}.json"
        content = files.read_json(path)
        path.unlink()
        files.write_json(path, {**content, **change})
    card = ship.make_card(run_dir, TEXTS)
    (stage,) = card["meta_training"]
    short = {"network": {"units": 3}}
    assert [t["config"] for t in stage["config"]["task"]] == [
        short,
        {"model": "mine"},
        {"task": {"config": {}}},
    ]
    assert stage["config"]["validation"]["task"]["config"] == short
    assert card["evaluations"][0]["task_config"] == short
