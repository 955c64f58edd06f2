import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task
from conftest import to_float64

import keras_l2l
from keras_l2l import evaluation
from keras_l2l import tasks
from keras_l2l.evaluation import comparison
from keras_l2l.evaluation import summary
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import files

QUADRATICS = tasks.Quadratics(3)
SGD = functools.partial(keras.optimizers.SGD, 0.01)
ADAM = functools.partial(keras.optimizers.Adam, 0.1)


def test_curve_of_sgd_by_hand():
    curve = evaluation.training_curve(SGD, QUADRATICS, 5, "test", 3)
    seed = split_seed("test", 3)
    task = QUADRATICS.sample(seed)
    (w, y), params = (
        to_float64((task.w, task.y)),
        to_float64(task.init_params(seed)),
    )
    x, expected = params[0].numpy(), []
    for _ in range(5):
        x = x - 0.01 * 2 * w.numpy().T @ (w.numpy() @ x - y.numpy())
        expected.append(np.sum((w.numpy() @ x - y.numpy()) ** 2))
    assert curve.shape == (5,)
    np.testing.assert_allclose(curve, expected, rtol=1e-5)


@pytest.mark.parametrize("make_optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize(
    "task", [QUADRATICS, regression_task()], ids=["quadratics", "keras"]
)
def test_a_baseline_starts_anew_for_every_seed(make_optimizer, task):
    curves = evaluation.training_curves(
        make_optimizer, task, 8, "test", [1, 2, 1]
    )
    np.testing.assert_array_equal(curves[0], curves[2])
    assert np.abs(curves[0] - curves[1]).max() > 1e-3
    again = evaluation.training_curve(make_optimizer, task, 8, "test", 2)
    np.testing.assert_array_equal(again, curves[1])


def test_one_optimizer_under_two_names_gives_one_curve():
    result = evaluation.evaluate(
        ADAM,
        QUADRATICS,
        20,
        seeds=range(3),
        tuning_seeds=range(3),
        learning_rates=(0.001, 0.1, 100.0),
        baselines={
            "adam": keras.optimizers.Adam,
            "other": keras.optimizers.Adam,
        },
    )
    learned, default, *rest = result["results"]
    assert (default["optimizer"], default["tuned_for"]) == ("adam_default", [])
    expected = evaluation.training_curves(
        keras.optimizers.Adam, QUADRATICS, 20, "test", range(3)
    )
    np.testing.assert_allclose(default["losses"], expected.mean(axis=0))
    curves = {}
    for r in rest:
        curves.setdefault(r["optimizer"], {})[r["learning_rate"]] = r["losses"]
    assert curves["adam"] == curves["other"]
    assert curves["adam"][0.1] == learned["losses"]


def test_several_learned_optimizers(capsys):
    arguments = {
        "task": QUADRATICS,
        "horizon": 5,
        "seeds": range(2),
        "tuning_seeds": range(2),
        "learning_rates": (1e-5, 0.01, 100.0),
        "baselines": {"sgd": keras.optimizers.SGD},
    }
    both = evaluation.evaluate({"a": SGD, "b": ADAM}, **arguments, verbose=1)
    # Also where both criteria choose one rate: 3 * 2, 3 rates * 2, 2 * 2.
    assert "16/16" in capsys.readouterr().out
    names = [r["optimizer"] for r in both["results"]]
    assert names[:3] == ["a", "b", "adam_default"]
    assert set(names[3:]) == {"sgd"}
    alone = evaluation.evaluate(ADAM, **arguments)
    assert capsys.readouterr().out == ""
    assert both["results"][1] == {**alone["results"][0], "optimizer": "b"}
    assert both["results"][2:] == alone["results"][1:]


def test_baselines_of_an_earlier_evaluation(monkeypatch):
    arguments = {
        "task": QUADRATICS,
        "horizon": 20,
        "seeds": range(3),
        "tuning_seeds": range(2),
        "learning_rates": (1e-5, 0.001, 0.1, 100.0),
        "baselines": {"sgd": keras.optimizers.SGD},
    }
    earlier = evaluation.evaluate(SGD, **arguments)
    earlier["versions"]["commit"] = "0" * 40
    expected = evaluation.evaluate(ADAM, **arguments)
    monkeypatch.setattr(comparison, "_tune", None)
    # As from a file.
    earlier = json.loads(files.to_json(earlier))
    found = evaluation.evaluate(ADAM, **arguments, earlier=earlier)
    assert found.pop("baselines_versions") == earlier["versions"]
    assert found == expected
    # Which took them from another one.
    taken = {**earlier, "baselines_versions": {"commit": "1" * 40}}
    found = evaluation.evaluate(ADAM, **arguments, earlier=taken)
    assert found["baselines_versions"] == {"commit": "1" * 40}
    kept = [r for r in earlier["results"] if r["optimizer"] != "adam_default"]
    found = evaluation.evaluate(
        ADAM, **arguments, earlier={**earlier, "results": kept}
    )
    assert found["results"] == expected["results"]
    monkeypatch.setattr(evaluation, "UNTUNED", {"adam_default": None})
    found = evaluation.evaluate(ADAM, **arguments, earlier=earlier)
    assert found["results"] == expected["results"]
    for name, value in (
        ("horizon", 10),
        ("seeds", [0, 1, 3]),
        ("tuning_seeds", [0]),
        ("learning_rates", [0.001, 0.1, 1.0]),
        ("task_config", {}),
        ("versions", {**earlier["versions"], "keras": "3.0"}),
        ("versions", None),
        ("block", 10),
    ):
        with pytest.raises(ValueError, match=f"Received: {name}: "):
            evaluation.evaluate(
                ADAM, **arguments, earlier={**earlier, name: value}
            )


def test_tuning_finds_the_best_rate_per_criterion():
    rates = (0.001, 0.01, 0.03, 0.1, 1000.0)
    best = evaluation.tune_learning_rate(
        keras.optimizers.Adam, QUADRATICS, 20, "train", range(4), rates
    )
    for criterion, score in summary.CRITERIA.items():
        scores = {
            rate: score(
                evaluation.training_curves(
                    functools.partial(keras.optimizers.Adam, rate),
                    QUADRATICS,
                    20,
                    "train",
                    range(4),
                )
            ).mean()
            for rate in rates
        }
        assert best[criterion] == min(scores, key=scores.get)


def test_a_rate_that_diverges_is_never_the_best():
    best = evaluation.tune_learning_rate(
        keras.optimizers.SGD,
        QUADRATICS,
        60,
        seeds=range(3),
        learning_rates=(1e-4, 1e-3, 1e10),
    )
    assert set(best.values()) == {1e-3}
    with pytest.raises(ValueError, match="Add smaller ones"):
        evaluation.tune_learning_rate(
            keras.optimizers.SGD,
            QUADRATICS,
            60,
            seeds=range(3),
            learning_rates=(1e10, 1e11),
        )


@pytest.mark.parametrize("horizon", [1, 3, 40])
def test_rates_that_overflow_are_refused(horizon):
    # To inf at once, and to NaN later on.
    with pytest.raises(ValueError, match="must not diverge"):
        evaluation.tune_learning_rate(
            keras.optimizers.SGD,
            QUADRATICS,
            horizon,
            seeds=range(2),
            learning_rates=(1e25, 1e30),
        )


def test_a_loss_of_minus_infinity_is_never_the_best():
    class Endless(tasks.Quadratic):
        def loss(self, params, batch):
            return -tf.exp(tf.reduce_sum(tf.abs(params[0])))

    best = evaluation.tune_learning_rate(
        keras.optimizers.SGD,
        Endless(tf.eye(2), tf.zeros(2)),
        4,
        seeds=range(2),
        learning_rates=(1e-9, 1e-3, 1e-4),
    )
    assert set(best.values()) == {1e-3}
    with pytest.raises(ValueError, match="must not diverge"):
        evaluation.tune_learning_rate(
            keras.optimizers.SGD,
            Endless(tf.eye(2), tf.zeros(2)),
            4,
            seeds=range(2),
            learning_rates=(1e4, 1e5),
        )


def test_a_best_rate_at_the_edge_of_the_grid_warns():
    with pytest.warns(UserWarning, match="edge of the grid"):
        evaluation.tune_learning_rate(
            keras.optimizers.SGD,
            QUADRATICS,
            10,
            seeds=range(3),
            learning_rates=(1e-6, 1e-5),
        )


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_evaluate(small_lstm):
    result = evaluation.evaluate(
        functools.partial(keras_l2l.LearnedOptimizer, rule=small_lstm),
        QUADRATICS,
        4,
        seeds=range(3),
        tuning_seeds=range(2),
        learning_rates=(1e-3, 1e-2, 1e-1),
    )
    files.to_json(result)
    assert result["task"] == "quadratics"
    assert result["horizon"] == 4
    names = [r["optimizer"] for r in result["results"]]
    assert names[0] == "learned"
    assert set(names) == {"learned", "adam_default", *evaluation.BASELINES}
    for name in evaluation.BASELINES:
        tuned_for = [
            criterion
            for r in result["results"]
            if r["optimizer"] == name
            for criterion in r["tuned_for"]
        ]
        assert sorted(tuned_for) == sorted(summary.CRITERIA)
    for r in result["results"]:
        assert len(r["losses"]) == 4
        assert r["final_loss"] == r["losses"][-1]
        assert r["final_loss_ci95"][0] <= r["final_loss"]
        assert r["final_loss"] <= r["final_loss_ci95"][1]
    table = summary.format_table(result).splitlines()
    assert len(table) == 1 + len(result["results"])
    for line, r in zip(table[1:], result["results"], strict=True):
        low, high = r["mean_loss_ci95"]
        assert f"{r['mean_loss']:.4f} [{low:.4f}, {high:.4f}]" in line


def test_table_of_what_diverges():
    diverged = {"optimizer": "sgd", "learning_rate": 1.0}
    for name in summary.CRITERIA:
        diverged |= {name: np.inf, f"{name}_ci95": [np.nan, np.nan]}
    of_json = json.loads(files.to_json({"results": [diverged]}))
    assert of_json["results"][0]["final_loss"] is None
    for evaluated in ({"results": [diverged]}, of_json):
        row = summary.format_table(evaluated).splitlines()[1]
        assert row.split() == ["sgd", "1", "diverges", "diverges"]


def test_tuning_on_what_is_reported_is_refused():
    with pytest.raises(ValueError, match=r"\[2, 3\] in both"):
        evaluation.evaluate(
            SGD,
            QUADRATICS,
            4,
            seeds=range(4),
            tuning_split="test",
            tuning_seeds=range(2, 6),
        )


def test_loss_has_a_gradient_only_in_the_parameters_it_uses():
    class Unused(tasks.Quadratic):
        def init_params(self, seed):
            return [*super().init_params(seed), tf.ones([2])]

    task = Unused(tf.eye(2), tf.ones(2))
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        curve = evaluation.training_curve(SGD, task, 3, "test", 0)
    assert np.isfinite(curve).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((SGD, "digits", 3, "test", [0]), "`task` must be"),
        ((SGD, QUADRATICS, 0, "test", [0]), "`horizon` must be"),
        ((SGD, QUADRATICS, 3, "test", []), "ints, at least one"),
        ((SGD, QUADRATICS, 3, "test", 4), r"Pass range\(4\)"),
        ((SGD, QUADRATICS, 3, "valid", [0]), "train, meta_valid, test"),
        ((lambda: "adam", QUADRATICS, 3, "test", [0]), "must return a new"),
        (("adam", QUADRATICS, 3, "test", [0]), "must be a function"),
        ((SGD(), QUADRATICS, 3, "test", [0]), "must be a function"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.training_curves(*arguments)


def test_what_is_tuned_must_be_a_function():
    with pytest.raises(ValueError, match="must be a function"):
        evaluation.tune_learning_rate("adam", QUADRATICS, 3)
    with pytest.raises(ValueError, match="`learned` must be a function"):
        evaluation.evaluate("runs/mine/preset", QUADRATICS, 3)


def test_losses_of_blocks_are_means():
    arguments = {
        "seeds": range(3),
        "tuning_seeds": range(2),
        "learning_rates": (0.003, 0.03, 0.3),
        "baselines": {"sgd": keras.optimizers.SGD},
    }
    plain, blocks = (
        evaluation.evaluate({}, QUADRATICS, 20, **arguments, **block)
        for block in ({}, {"block": 5})
    )
    assert "block" not in plain and blocks["block"] == 5
    assert [r["optimizer"] for r in blocks["results"]][0] == "adam_default"
    for one, other in zip(plain["results"], blocks["results"], strict=False):
        means = np.reshape(one["losses"], (4, 5)).mean(axis=1)
        np.testing.assert_allclose(other["losses"], means, rtol=1e-5)
        assert other["final_loss"] == pytest.approx(means[-1], rel=1e-5)
        assert other["mean_loss"] == pytest.approx(one["mean_loss"], rel=1e-5)


def test_blocks_must_divide_the_horizon():
    with pytest.raises(ValueError, match="`block` must divide `horizon`"):
        evaluation.evaluate({}, QUADRATICS, 20, block=6)


def test_several_tasks_cannot_be_evaluated_at_once():
    with pytest.raises(ValueError, match="`task` must be"):
        evaluation.evaluate({}, [QUADRATICS, QUADRATICS], 20)
