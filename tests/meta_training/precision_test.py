"""Meta-training and evaluation in every precision that Keras has."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import slow_but
from conftest import uncompiled

import keras_l2l
from keras_l2l import estimators
from keras_l2l import evaluation
from keras_l2l import meta_training
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import task_check
from keras_l2l.utils import files

SETTINGS = [
    ("floatx", "float16"),
    ("floatx", "bfloat16"),
    ("floatx", "float64"),
    ("policy", "bfloat16"),
    ("policy", "float64"),
    ("policy", "mixed_float16"),
]
ONE = pytest.mark.parametrize(
    "precision", [("policy", "bfloat16")], indirect=True
)


@pytest.fixture(
    params=slow_but([("policy", "bfloat16")], SETTINGS),
    ids=lambda setting: " ".join(setting),
)
def precision(request):
    """The precision of models: a global setting, put back after the test."""
    kind, name = request.param
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    if kind == "policy":
        keras.config.set_dtype_policy(name)
    else:
        keras.config.set_floatx(name)
        keras.config.set_dtype_policy(name)
    yield "float32" if "mixed" in name else name
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def make_task(regularizer="l2"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    return tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, kernel_regularizer=regularizer),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.1),
                keras.layers.Dense(1),
            ]
        ),
        "mse",
        (x, x.sum(axis=1, keepdims=True), np.ones(60)),
        batch_size=8,
        metrics=["mae"],
    )


SHORT = {
    "horizon": 4,
    "estimator": estimators.TruncatedBackprop(unroll_length=2),
    "validation": meta_training.Validation(interval=1, episodes=1),
}


def meta_train(task, folder, meta_steps=3, **arguments):
    return keras_l2l.meta_train(
        rules.Momentum(),
        task,
        folder,
        **SHORT,
        meta_steps=meta_steps,
        resume=True,
        verbose=0,
        **arguments,
    )


def test_meta_training_of_a_model(precision, tmp_path):
    task = make_task()
    assert {p.dtype for p in task.init_params(0)} == {tf.as_dtype(precision)}
    result = meta_train(task, tmp_path)
    for leaf in tf.nest.flatten(result.meta_params):
        assert leaf.dtype == tf.float32
    finals = [v["final_loss"] for v in result.history["validation"]]
    assert len(set(finals)) > 1 and np.isfinite(finals).all()
    # Within an episode: its tensors are in the checkpoint.
    for path in (tmp_path / "checkpoints").iterdir():
        if not path.name.startswith("00000001"):
            path.unlink()
    again = meta_train(task, tmp_path)
    assert again.history["meta_loss"] == result.history["meta_loss"]


def test_curves_and_metrics_of_a_model(precision):
    # With one, Keras' own `fit` and `evaluate` mix dtypes up and raise.
    task = make_task(regularizer=None)
    curve = evaluation.training_curve(keras.optimizers.Adam, task, 4, "test", 0)
    assert np.isfinite(curve).all()
    # Half precision would have few values.
    expected = "float64" if precision == "float64" else "float32"
    assert curve.dtype == expected
    params, state = task.init_params(0), task.init_non_trainable(0)
    assert np.isfinite(task.metrics(params, state, "test")["mae"])


@pytest.mark.slow
@ONE
def test_inspection_of_a_model(precision):
    report = task_check.inspect_task(
        uncompiled(keras_l2l.CoordinatewiseLSTM(units=(4,))),
        make_task(),
        **SHORT,
    )
    assert np.isfinite(report["meta_losses"]).all()
    assert 0 < report["gradients"]["start"]["median"] < 100
    assert files.to_json(report)


@ONE
def test_tasks_of_the_package_are_float32(precision, tmp_path):
    # Not of layers: the precision of models is none of theirs.
    for number, task in enumerate(
        (
            tasks.Quadratics(3),
            tasks.ImageClassification("l2l_digits", layer_sizes=(4,)),
        )
    ):
        params = task.sample(0).init_params(0)
        assert {p.dtype for p in params} == {tf.float32}
        result = meta_train(task, tmp_path / str(number), meta_steps=1)
        assert np.isfinite(result.history["meta_loss"]).all()
