import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l import estimators
from keras_l2l import evaluation
from keras_l2l import meta_training
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.utils import configurations
from keras_l2l.utils import files
from keras_l2l.utils.descriptions import NOTE
from keras_l2l.utils.descriptions import described
from keras_l2l.utils.descriptions import json_able

X = np.arange(60.0).reshape(20, 3) / 60
Y = X.sum(axis=1, keepdims=True)


def weighted(y, prediction, loss, factor=1.0):
    return factor * loss(y, prediction)


class Scaled:
    """A loss that is neither a function nor Keras' own."""

    def __init__(self, factor):
        self.factor = factor
        self.loss = keras.losses.Huber()

    def __call__(self, y, prediction):
        return self.factor * self.loss(y, prediction)

    def method(self, y, prediction):
        return self(y, prediction)


def closing_over(loss, factor=1.0):
    return lambda y, prediction: factor * loss(y, prediction)


def nested(loss):
    def function(y, prediction):
        return loss(y, prediction)

    return function


HUBER = keras.losses.Huber
# What differs from what: the first two of each are the same.
KINDS = {
    "lambda": (
        closing_over(HUBER(2.0)),
        closing_over(HUBER(2.0)),
        closing_over(HUBER(3.0)),
        closing_over(HUBER(2.0), 0.5),
        lambda y, prediction: tf.abs(y - prediction),
        lambda y, prediction: tf.abs(y + prediction),
        lambda y, prediction: tf.square(y - prediction),
        lambda y, prediction: 2 * tf.square(y - prediction),
    ),
    "function": (nested(HUBER(2.0)), nested(HUBER(2.0)), nested(HUBER(3.0))),
    "partial": (
        functools.partial(weighted, loss=HUBER(2.0)),
        functools.partial(weighted, loss=HUBER(2.0)),
        functools.partial(weighted, loss=HUBER(3.0)),
        functools.partial(weighted, loss=HUBER(2.0), factor=3.0),
        functools.partial(nested(HUBER()), HUBER()),
    ),
    "object": (Scaled(2.0), Scaled(2.0), Scaled(3.0)),
    "method": (Scaled(2.0).method, Scaled(2.0).method, Scaled(3.0).method),
    "array": (
        closing_over(HUBER(), np.ones(3)),
        closing_over(HUBER(), np.ones(3)),
        closing_over(HUBER(), np.zeros(3)),
        closing_over(HUBER(), np.zeros(3, "float32")),
        closing_over(HUBER(), tf.zeros(3)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_is_told_apart(kind):
    first, same, *others = (
        json.dumps(described(one), sort_keys=True) for one in KINDS[kind]
    )
    assert first == same
    assert len({first, *others}) == 1 + len(others)
    assert NOTE in first


@pytest.mark.parametrize(
    "loss",
    [
        "mse",
        keras.losses.MeanSquaredError(name="mine"),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        keras.losses.mean_squared_error,
        weighted,
    ],
)
def test_what_keras_serializes_is_described_so(loss):
    assert described(loss) == keras.saving.serialize_keras_object(loss)


def test_arguments_that_keras_forgets_are_told():
    found = described(keras.losses.Huber(3.0))
    assert found["class_name"] == "Huber"
    assert found["arguments"] == {"delta": 3.0}


def test_a_description_never_raises():
    def recursive(n):
        return recursive(n - 1)

    class Bad:
        def get_config(self):
            raise OSError("no disk")

    endless = Scaled(1.0)
    endless.itself = endless
    for thing in (recursive, Bad(), endless, object(), np.add, Bad, len):
        assert json.dumps(described(thing))
        assert configurations.digest({"loss": described(thing)})


def test_only_what_is_not_for_json_is_described():
    nest = {"a": [1, None, "b", np.float32(0.5)], 3: (True,)}
    assert files.to_json(json_able(nest)) == files.to_json(nest)
    found = json_able({"a": [1, keras.losses.Huber()], "b": object()})
    assert found["a"][1]["class_name"] == "Huber"
    assert found["b"] == {"note": NOTE, "class_name": "builtins.object"}


def make_task(loss):
    return tasks.KerasModelTask(
        lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
        loss,
        (X, Y),
        name="mine",
    )


@pytest.mark.parametrize("kind", ["lambda", "partial", "object"])
def test_a_run_with_any_loss_is_written_and_resumed(tmp_path, kind):
    first, same, other, *_ = KINDS[kind]

    def meta_train(loss):
        return keras_l2l.meta_train(
            rules.Momentum(),
            make_task(loss),
            tmp_path,
            horizon=2,
            estimator=estimators.TruncatedBackprop(unroll_length=2),
            meta_steps=1,
            validation=meta_training.Validation(episodes=1),
            resume=True,
            verbose=0,
        )

    meta_train(first)
    config = files.read_json(tmp_path / "config.json")
    assert config["task"]["config"]["loss"]["note"] == NOTE
    meta_train(same)
    with pytest.raises(ValueError, match=r"task\.config\.loss") as raised:
        meta_train(other)
    assert len(str(raised.value)) <= 500


def test_tasks_of_ones_own_may_hold_anything(tmp_path):
    class Mine(tasks.Quadratics):
        def get_config(self):
            return {**super().get_config(), "extra": [keras.losses.Huber(), 1]}

    keras_l2l.meta_train(
        rules.Momentum(),
        Mine(3),
        tmp_path,
        horizon=2,
        estimator=estimators.TruncatedBackprop(unroll_length=2),
        meta_steps=1,
        validation=meta_training.Validation(episodes=1),
        verbose=0,
    )
    config = files.read_json(tmp_path / "config.json")
    assert config["task"]["config"]["extra"][0]["class_name"] == "Huber"
    with pytest.warns(UserWarning, match="edge of the grid"):
        found = evaluation.evaluate(
            keras.optimizers.SGD,
            Mine(3),
            2,
            seeds=[0],
            tuning_seeds=[0],
            learning_rates=[0.01],
            baselines={"sgd": keras.optimizers.SGD},
        )
    assert files.to_json(found)


def test_a_model_that_json_has_no_form_for():
    class Initializer:
        def __init__(self):
            self.loss = keras.losses.Huber()

        def __call__(self, shape, dtype=None):
            return keras.ops.ones(shape, dtype)

    task = tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(1, kernel_initializer=Initializer()),
            ]
        ),
        "mse",
        (X, Y),
    )
    config = task.get_config()
    assert files.to_json(config)
    assert config["model"]["note"] == NOTE
    assert config["model"]["shapes"] == [[3, 1], [1]]
