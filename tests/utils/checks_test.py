import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task

import keras_l2l
from keras_l2l import estimators
from keras_l2l import evaluation
from keras_l2l import export
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators.meta_loss import MetaLoss
from keras_l2l.evaluation import proposed_updates
from keras_l2l.meta_training import search
from keras_l2l.tasks import base
from keras_l2l.tasks.base import check_task
from keras_l2l.utils import checks
from keras_l2l.utils import configurations


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8])
def test_ints_of_python_and_numpy(kind):
    value = checks.require_int("n", kind(7))
    assert type(value) is int and value == 7
    for found in (checks.require_positive, checks.require_number):
        assert type(found("x", kind(7))) is int


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.float16])
def test_floats_of_python_and_numpy(kind):
    for require in (checks.require_positive, checks.require_number):
        value = require("x", kind(0.5))
        assert type(value) is float and value == 0.5
    with pytest.raises(ValueError, match="`n` must be an int"):
        checks.require_int("n", kind(2))


@pytest.mark.parametrize("value", [True, np.True_, "1", None, [1], 1j])
def test_what_is_no_number(value):
    for require in (
        checks.require_int,
        checks.require_positive,
        checks.require_number,
    ):
        with pytest.raises(ValueError, match="`x` must be .* Received: x="):
            require("x", value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1, 10**400])
def test_numbers_out_of_range(value):
    with pytest.raises(ValueError, match="positive finite"):
        checks.require_positive("x", value)
    with pytest.raises(ValueError, match=r"in \[0, 2\)"):
        checks.require_number("x", value, below=2)


def test_bools():
    assert checks.require_bool("b", np.True_) is True
    for value in (1, np.int64(1), None, "yes"):
        with pytest.raises(ValueError, match="`b` must be a bool"):
            checks.require_bool("b", value)


@pytest.mark.parametrize(
    "rule",
    [
        rules.Celo(np.int64(5)),
        rules.KernelLSTM((np.int64(3),), (np.int32(4),), p=np.float32(2)),
        rules.NTMBFGS(np.int64(2), np.int64(2), (4,), output_scale=np.half(1)),
        rules.Guarded(rules.SGD(np.float32(0.5)), patience=np.int64(3)),
        rules.RNNprop((np.int64(4),), np.float64(0.5)),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_with_numbers_of_numpy_can_be_saved(rule, tmp_path):
    presets.save_preset(rule, rule.init_meta_params(0), tmp_path, np.int64(9))
    again = presets.load_preset(tmp_path)
    assert again.rule.get_config() == rule.get_config()
    assert again.horizon == 9


def test_an_optimizer_with_a_horizon_of_numpy_can_be_saved():
    optimizer = keras_l2l.LearnedOptimizer(horizon=np.int64(9))
    assert json.loads(json.dumps(optimizer.get_config()))["horizon"] == 9


def test_tasks_and_estimators_with_numbers_of_numpy():
    task = tasks.Quadratics(np.int64(3))
    json.dumps(task.get_config())
    made = estimators.TruncatedBackprop(
        unroll_length=np.int32(2),
        loss_weights=list(np.ones(4, "float32")),
        sampled_coordinates=np.int64(2),
    )
    json.dumps(made.get_config())
    bound = made.bind(rules.SGD(), task, np.int64(4))
    assert type(bound.horizon) is int
    assert base.split_seed("test", np.int64(3)) == base.split_seed("test", 3)
    with pytest.raises(ValueError, match="`seed` must be"):
        base.split_seed("test", np.int64(-1))


def test_meta_training_with_numbers_of_numpy(tmp_path):
    numbers = {"horizon": 4, "meta_steps": 2, "seed": 3}
    two = np.int64(2)
    for resume in (False, True):
        keras_l2l.meta_train(
            rules.SGD(),
            regression_task(),
            tmp_path / "run",
            **{name: np.int64(value) for name, value in numbers.items()},
            estimator=estimators.TruncatedBackprop(
                unroll_length=two, second_derivatives=np.False_
            ),
            curriculum=meta_training.Curriculum(first_horizon=two),
            validation=meta_training.Validation(interval=two, episodes=two),
            meta_optimizer=meta_training.MetaOptimizer(
                learning_rate=np.float32(0.5), clipnorm=np.float64(1.0)
            ),
            resume=resume,
            verbose=0,
        )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config[name] for name in numbers} == numbers
    assert config["estimator"]["config"]["unroll_length"] == 2
    assert config["validation"] == {"task": None, "interval": 2, "episodes": 2}


def test_complex_variables_are_refused_where_tasks_are_made():
    class Fourier(tasks.Quadratic):
        def variables(self):
            return [keras.Variable([1j, 1.0], dtype="complex64")]

    with pytest.raises(ValueError, match="must be real. Received: .*complex64"):
        estimators.TruncatedBackprop(unroll_length=2).bind(
            rules.SGD(), Fourier(np.eye(2, dtype="f4"), np.ones(2, "f4")), 2
        )


class Wide:
    """Like much that users pass, it says all that it is."""

    def __repr__(self):
        return "wide " * 20_000


@pytest.mark.parametrize(
    "value, expected",
    [
        (3, "3"),
        ("mse", "'mse'"),
        ([1, 2.5, None], "[1, 2.5, None]"),
        ({"a": (1,)}, "{'a': (1,)}"),
        (np.float32(2.5), repr(np.float32(2.5))),
        (np.zeros((2, 3)), "<ndarray of shape (2, 3), float64>"),
        ([np.zeros(1, "f4")], "[<ndarray of shape (1,), float32>]"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, ...]"),
    ],
)
def test_what_is_shown(value, expected):
    assert checks.shown(value) == expected


def test_tensors_and_variables_are_not_shown_whole():
    for value in (tf.zeros([50, 50]), keras.Variable(np.zeros((50, 50)))):
        assert "of shape (50, 50)" in checks.shown(value)
        assert "0. 0." not in checks.shown(value)


def test_what_is_shown_is_short():
    for value in (Wide(), "x" * 10**6, [Wide()] * 9, {"a": Wide()}, 10**999):
        assert len(checks.shown(value)) <= 160
    assert len(checks.shortened("x" * 10**6)) == 160


TASK = tasks.Quadratics(3)
LARGE = np.zeros((200, 200)).tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda value: checks.require_int("n", value),
        lambda value: checks.require_positive("x", value),
        lambda value: checks.require_bool("b", value),
        check_task,
        lambda value: tasks.base.split_seed(value, 0),
        lambda value: MetaLoss(value, 4, 2),
        lambda value: estimators.TruncatedBackprop().bind(value, TASK, 20),
        lambda value: estimators.Imitation(teacher=value),
        lambda value: estimators.PersistentES(pairs=value),
        lambda value: estimators.deserialize({"class_name": str(value)}),
        lambda value: keras_l2l.meta_train(
            rules.SGD(), TASK, "x", estimator=value
        ),
        lambda value: proposed_updates.proposed_updates(value, {}, TASK),
        lambda value: proposed_updates.proposed_updates(
            rules.SGD(), {}, TASK, value
        ),
        lambda value: evaluation.training_curves(value, TASK, 2, "test", [0]),
        lambda value: evaluation.training_curves(
            lambda: value, TASK, 2, "test", [0]
        ),
        lambda value: export.export_training_step(value, "nowhere", ()),
        lambda value: search.meta_search(rules.SGD(), TASK, "x", value),
        lambda value: configurations.require_same({"a": value}, {"a": 1}),
        lambda value: configurations.require_same(
            {str(i): value for i in range(5)}, {}
        ),
    ],
)
@pytest.mark.parametrize(
    "value", [Wide(), LARGE, "x" * 10**5], ids=["wide", "list", "text"]
)
def test_messages_are_short(call, value):
    with pytest.raises(ValueError, match="must") as raised:
        call(value)
    assert len(str(raised.value)) <= 500
