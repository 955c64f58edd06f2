import copy

import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task
from conftest import uncompiled

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import task_check

FEW = {
    "horizon": 6,
    "estimator": estimators.TruncatedBackprop(unroll_length=2),
    "validation": meta_training.Validation(episodes=2),
}


def test_report_of_a_good_task(small_lstm):
    report = task_check.inspect_task(
        uncompiled(small_lstm), regression_task(), meta_steps=700, **FEW
    )
    assert report["remarks"] == []
    assert report["params"] == 3 * 4 + 4 + 4 + 1
    assert report["adam"]["loss_after"] < report["adam"]["loss_before"]
    for sizes in report["gradients"].values():
        assert 0 < sizes["median"] <= sizes["largest"]
        assert 0.5 < sizes["share_in_log_branch"] <= 1
    assert len(report["meta_losses"]) == len(report["meta_gradient_norms"]) > 2
    seconds = report["seconds"]
    assert seconds["first_meta_step"] > seconds["meta_step"] > 0
    # 700 meta-steps, and validations before 0, 250, 500 and at the end.
    assert seconds["whole_run"] == pytest.approx(
        seconds["first_meta_step"]
        + 700 * seconds["meta_step"]
        + 4 * seconds["validation"]
    )
    assert report["peak_memory_mb"] > 100


def test_what_is_in_the_report_is_measured():
    # d/dx of ||x||^2 at x is 2 x: every size is known.
    task = tasks.Quadratic(tf.linalg.diag([1.0, 1e-3, 0.0]), tf.zeros(3))
    report = task_check.inspect_task(
        uncompiled(keras_l2l.CoordinatewiseLSTM((4,))), task, **FEW
    )
    (x,) = np.abs(task.init_params(tf.constant(0, tf.int64)))
    sizes = report["gradients"]["start"]
    assert sizes["share_of_zeros"] == pytest.approx(1 / 3)
    assert sizes["largest"] == pytest.approx(2 * x[0], rel=1e-5)
    assert sizes["median"] == pytest.approx(x[0] + 1e-6 * x[1], rel=1e-4)
    # exp(-10) is 4.5e-5, and 2e-6 x is below.
    assert sizes["share_in_log_branch"] == pytest.approx(1 / 3)


def test_task_whose_loss_does_not_fall_is_noticed():
    task = tasks.Quadratic(tf.zeros([2, 2]), tf.ones(2))
    report = task_check.inspect_task(rules.SGD(), task, **FEW)
    remarks = " ".join(report["remarks"])
    assert "does not make the loss fall" in remarks
    assert "More than half of the gradient is 0 at the start" in remarks
    assert "Meta-gradients are 0" in remarks


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_rate_that_diverges_is_not_the_best(monkeypatch, value):
    monkeypatch.setattr(task_check, "_LEARNING_RATES", (0.2, 0.1))
    losses = iter([value, 1.0])
    monkeypatch.setattr(task_check, "_loss", lambda *_: next(losses))
    task = tasks.Quadratic(tf.eye(2), tf.zeros(2))
    rate, _ = task_check._train_with_adam(task, tf.constant(0, tf.int64), 2)
    assert rate == 0.1


@pytest.mark.parametrize(
    "change, remark",
    [
        (
            lambda r: r["gradients"]["end"].update(largest=1e9),
            "huge at the end",
        ),
        (
            lambda r: r["gradients"]["end"].update(largest=float("nan")),
            "huge at the end",
        ),
        (
            lambda r: r["gradients"]["start"].update(share_in_log_branch=0.01),
            "larger p",
        ),
        (
            lambda r: r.update(meta_gradient_norms=[1.0, float("nan")]),
            "not finite",
        ),
        (lambda r: r.update(meta_gradient_norms=[1e9]), "keep a clipnorm"),
        (
            lambda r: r.update(
                meta_losses=[1.0, -np.inf], meta_gradient_norms=[np.nan]
            ),
            "must not be negative",
        ),
        (lambda r: r["adam"].update(loss_after=float("nan")), "loss fall"),
    ],
)
def test_remarks(change, remark):
    sizes = {
        "share_of_zeros": 0.1,
        "median": 0.01,
        "largest": 1.0,
        "share_in_log_branch": 0.9,
    }
    report = {
        "adam": {"loss_before": 2.0, "loss_after": 1.0},
        "gradients": {"start": dict(sizes), "end": dict(sizes)},
        "meta_losses": [1.0, 2.0],
        "meta_gradient_norms": [1.0, 2.0],
    }
    assert task_check._remarks(copy.deepcopy(report)) == []
    change(report)
    (found,) = task_check._remarks(report)
    assert remark in found


def test_bad_arguments_raise_as_in_meta_train(small_lstm):
    with pytest.raises(ValueError, match="must divide `horizon`"):
        task_check.inspect_task(
            small_lstm, tasks.Quadratics(3), **{**FEW, "horizon": 5}
        )
    with pytest.raises(TypeError, match="unroll_length"):
        task_check.inspect_task(
            small_lstm, tasks.Quadratics(3), unroll_length=2
        )
    with pytest.raises(ValueError, match="`meta_steps` must be an int"):
        task_check.inspect_task(small_lstm, tasks.Quadratics(3), meta_steps=0)
