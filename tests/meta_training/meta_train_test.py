import contextlib
import io
import json

import keras
import numpy as np
import one_run
import pytest
import tensorflow as tf
from conftest import Uphill
from conftest import leaves
from conftest import regression_task
from conftest import uncompiled

import keras_l2l
from keras_l2l import estimators
from keras_l2l import evaluation
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from train.benchmarks import timing


def meta_train(rule, task, output_dir, **arguments):
    defaults = {
        "horizon": 6,
        "estimator": estimators.TruncatedBackprop(unroll_length=3),
        "meta_steps": 4,
        "validation": meta_training.Validation(interval=2, episodes=2),
        "verbose": 0,
    }
    return keras_l2l.meta_train(
        rule, task, output_dir, **{**defaults, **arguments}
    )


@pytest.fixture
def quick_lstm(small_lstm):
    return uncompiled(small_lstm)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Returns a run, its folder, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("plain"), io.StringIO()
    rule = uncompiled(keras_l2l.CoordinatewiseLSTM(units=(4, 3)))
    with contextlib.redirect_stdout(printed):
        result = meta_train(
            rule, tasks.Quadratics(3), folder, seed=2, verbose=1
        )
    return result, folder, printed.getvalue()


@pytest.mark.slow
def test_learned_optimizer_beats_tuned_sgd(tmp_path):
    task = tasks.Quadratics(4)
    rule = keras_l2l.CoordinatewiseLSTM(
        units=(8,), preprocessing=None, output_scale=1.0
    )
    result = keras_l2l.meta_train(
        rule,
        task,
        tmp_path,
        horizon=20,
        estimator=estimators.TruncatedBackprop(unroll_length=10),
        meta_batch_size=4,
        meta_optimizer=meta_training.MetaOptimizer(learning_rate=0.01),
        meta_steps=400,
        validation=meta_training.Validation(interval=100),
        verbose=0,
    )
    rates = evaluation.LEARNING_RATES[:10]
    best = evaluation.tune_learning_rate(
        keras.optimizers.SGD, task, 20, "meta_valid", range(30), rates
    )
    sgd, learned = (
        evaluation.training_curves(make, task, 20, "test", range(50)).mean()
        for make in (
            lambda: keras.optimizers.SGD(best["mean_loss"]),
            lambda: keras_l2l.LearnedOptimizer.from_preset(tmp_path / "preset"),
        )
    )
    assert learned < 0.8 * sgd
    # The result is the best validation, and meta-training got there.
    finals = [v["final_loss"] for v in result.history["validation"]]
    assert min(finals) < 0.5 * finals[0]


@pytest.mark.parametrize(
    "meta_batch_size", [pytest.param(1, marks=pytest.mark.slow), 3]
)
def test_run_is_repeatable_and_depends_on_its_seed(
    quick_lstm, tmp_path, meta_batch_size
):
    results = [
        meta_train(
            quick_lstm,
            regression_task(),
            tmp_path / str(i),
            meta_batch_size=meta_batch_size,
            seed=seed,
        )
        for i, seed in enumerate((3, 3, 4))
    ]
    first, again, other = (leaves(r.meta_params) for r in results)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first[0] - other[0]).max() > 0.01
    losses = [r.history["meta_loss"] for r in results]
    assert losses[0] == losses[1] != losses[2]


def test_what_a_run_writes(small_lstm, plain):
    result, folder, _ = plain
    names = {"checkpoints", "config.json", "history.json", "logs", "preset"}
    assert {p.name for p in folder.iterdir()} == names
    with pytest.raises(presets.PresetError, match="Pass '.*preset'"):
        presets.load_preset(folder)
    assert repr(result).startswith("MetaTrainingResult(meta_steps=4, val")
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == {"name": "quadratics", "config": {"dimension": 3}}
    assert rules.deserialize(config["rule"]).get_config() == (
        small_lstm.get_config()
    )
    assert (config["seed"], config["horizon"], config["meta_steps"]) == (
        2,
        6,
        4,
    )
    assert config["versions"]["tensorflow"] == tf.__version__
    history = json.loads((folder / "history.json").read_text())
    assert history == result.history
    assert len(history["meta_loss"]) == 4
    assert history["clipped"] == [
        float(norm > 1.0) for norm in history["meta_gradient_norm"]
    ]
    assert sum(history["clipped"]) > 0
    assert [v["meta_step"] for v in history["validation"]] == [0, 2, 4]
    meta_params = presets.load_preset(folder / "preset").meta_params
    for a, b in zip(
        leaves(meta_params), leaves(result.meta_params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    tags = set()
    for log in (folder / "logs").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(log)):
            tags |= {value.tag for value in event.summary.value}
    assert tags == {
        "meta_loss",
        "meta_gradient_norm",
        "clipped",
        "inner_steps_per_second",
        "validation/mean_loss",
        "validation/final_loss",
    }


def test_config_reproduces_the_run(quick_lstm, tmp_path):
    first = meta_train(
        quick_lstm,
        tasks.Quadratics(3),
        tmp_path / "a",
        seed=5,
        estimator=estimators.Imitation(
            unroll_length=3, teacher=rules.Adam(0.1), loss_weights=[0.5] * 6
        ),
        curriculum=meta_training.Curriculum(first_horizon=3),
    )
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    arguments = meta_training.arguments_of(config)
    uncompiled(arguments["rule"])
    again = keras_l2l.meta_train(
        task=tasks.Quadratics(3),
        output_dir=tmp_path / "b",
        verbose=0,
        **arguments,
    )
    for a, b in zip(
        leaves(first.meta_params), leaves(again.meta_params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "b" / "config.json").read_bytes() == (
        tmp_path / "a" / "config.json"
    ).read_bytes()


def test_a_run_may_start_from_meta_parameters(quick_lstm, tmp_path):
    task, start = tasks.Quadratics(3), quick_lstm.init_meta_params(7)
    for name, meta_params in (("from", start), ("seed", None)):
        result = meta_train(
            quick_lstm,
            task,
            tmp_path / name,
            seed=0,
            meta_steps=1,
            meta_optimizer=meta_training.MetaOptimizer(learning_rate=1e-9),
            meta_params=meta_params,
        )
        difference = max(
            np.abs(a - b).max()
            for a, b in zip(
                leaves(result.meta_params), leaves(start), strict=True
            )
        )
        assert (difference < 1e-6) == (name == "from")
    config = json.loads((tmp_path / "from" / "config.json").read_text())
    assert len(config["meta_params_sha256"]) == 64
    # Another start is another run.
    with pytest.raises(ValueError, match="meta_params_sha256: .* -> "):
        meta_train(
            quick_lstm,
            task,
            tmp_path / "from",
            meta_steps=1,
            meta_optimizer=meta_training.MetaOptimizer(learning_rate=1e-9),
            meta_params=quick_lstm.init_meta_params(8),
            resume=True,
        )
    with pytest.raises(presets.PresetError, match="must have the names and"):
        meta_train(rules.SGD(), task, tmp_path / "other", meta_params=start)
    assert not (tmp_path / "other").exists()


def test_the_best_validation_is_kept_not_the_last(tmp_path):
    task = tasks.Quadratic(tf.eye(2), tf.zeros(2))
    result = meta_train(
        Uphill(),
        task,
        tmp_path,
        meta_steps=8,
        meta_optimizer=meta_training.MetaOptimizer(learning_rate=0.1),
    )
    finals = [v["final_loss"] for v in result.history["validation"]]
    best = int(np.argmin(finals))
    assert finals[-1] > finals[best]
    kept = evaluation.training_curve(
        lambda: keras_l2l.LearnedOptimizer(
            rule=Uphill(), meta_params=result.meta_params
        ),
        task,
        6,
        "meta_valid",
        0,
    )
    both = [
        evaluation.training_curve(
            lambda: keras_l2l.LearnedOptimizer(
                rule=Uphill(), meta_params=result.meta_params
            ),
            task,
            6,
            "meta_valid",
            seed,
        )[-1]
        for seed in (0, 1)
    ]
    assert kept[-1] == both[0]
    assert np.mean(both) == pytest.approx(finals[best], rel=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    if timing.in_fresh_process(one_run.memory_of_constants, 20_000) > 2000:
        pytest.skip("this TensorFlow itself keeps memory of each tensor")
    memory = timing.in_fresh_process(one_run.memory_after, tmp_path, (50, 500))
    assert memory[500] <= 1.02 * memory[50]


def test_progress_bar_shows_loss_speed_and_time(plain):
    _, _, shown = plain
    for part in ("4/4", "meta_loss", "inner_steps/s", "/meta_step"):
        assert part in shown


@pytest.mark.parametrize(
    "argument",
    [
        {"second_derivatives": True},
        {"sampled_coordinates": 2},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_other_meta_gradients_change_the_result(
    quick_lstm, plain, tmp_path, argument
):
    first, _, _ = plain
    other = meta_train(
        quick_lstm,
        tasks.Quadratics(3),
        tmp_path / "other",
        seed=2,
        estimator=estimators.TruncatedBackprop(unroll_length=3, **argument),
    )
    name = "meta_gradient_norm"
    assert first.history[name] != other.history[name]


def test_non_empty_output_folder_is_left_alone(small_lstm, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="new or empty"):
        meta_train(small_lstm, tasks.Quadratics(3), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"estimator": estimators.TruncatedBackprop(unroll_length=4)},
            "must divide `horizon`",
        ),
        (
            {
                "estimator": estimators.Imitation(
                    unroll_length=3,
                    teacher=rules.NTMBFGS(),
                    sampled_coordinates=2,
                )
            },
            "treat each by itself",
        ),
        (
            {"curriculum": meta_training.Curriculum(first_horizon=9)},
            "`first_horizon` must be an int from 3 to 6",
        ),
        ({"seed": -1}, "`seed` must be an int from 0"),
        ({"seed": 2**29 + 1}, "`seed` must be an int from 0 to 536870912"),
        (
            {"estimator": "es"},
            "`estimator` must be a keras_l2l.estimators.GradientEstimator. "
            "Received: estimator='es'",
        ),
        *[
            (
                {name: value},
                f"`{name}` must be a keras_l2l.meta_training.* Pass an inst",
            )
            for name in ("curriculum", "validation", "meta_optimizer")
            for value in (16, None)
        ],
        *[
            ({name: value}, f"`{name}` must be .* Received: {name}=")
            for name in ("horizon", "meta_steps", "meta_batch_size", "seed")
            for value in (-1, 1.5, "1", b"1", [1], {}, None, 2**70, np.nan)
        ],
    ],
    ids=lambda value: value if isinstance(value, str) else str([*value]),
)
def test_bad_arguments_write_nothing(small_lstm, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        meta_train(
            small_lstm, tasks.Quadratics(3), tmp_path / "new", **arguments
        )
    assert not (tmp_path / "new").exists()
