"""On every backend: backends_test.py runs it on the others."""

import contextlib

import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import rules

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 5, size=(40, 2))
X = RNG.normal(size=(40, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
# A rule that JAX compiles quickly, where the rule does not matter.
LSTM = "l2l_fashion_mnist_mlp"
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of TensorFlow alone"
)
# What is measured is the same code; JAX would compile each step again.
not_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="seen on PyTorch"
)


def dense_model(optimizer, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse", **arguments)
    return model


def fit(model, monitor, x=X, y=Y, batch_size=4, epochs=1, callbacks=()):
    return model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        callbacks=[monitor, *callbacks],
        verbose=0,
    )


class Weights(keras.callbacks.Callback):
    """Keeps the weights before and after each step."""

    def __init__(self):
        super().__init__()
        self.all = []

    def on_train_begin(self, logs=None):
        self.all.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.all.append(self.model.get_weights())


def rms(array):
    return np.sqrt(np.mean(np.square(array)))


def test_sizes_are_those_of_the_steps():
    # Adam as a rule: what is learned and what Adam would do are the same.
    rule = rules.Adam(0.001)
    monitor, weights = keras_l2l.callbacks.UpdateMonitor(3), Weights()
    model = dense_model(keras_l2l.LearnedOptimizer(rule=rule))
    history = fit(model, monitor, callbacks=[weights], epochs=2)
    found = monitor.history
    assert found["step"] == [1, 4, 7, 10, 13, 16, 19]
    assert found["skipped_steps"] == [0] * 7
    assert found["handed_over"] == [None] * 7
    assert list(found["variables"]) == [v.path for v in model.variables]
    for i, measured in enumerate(found["variables"].values()):
        for at, step in enumerate(found["step"]):
            before, after = (weights.all[s][i] for s in (step - 1, step))
            for name, expected in (
                ("param_rms", rms(before)),
                ("update_rms", rms(after - before)),
                ("adam_rms", rms(after - before)),
            ):
                np.testing.assert_allclose(
                    measured[name][at], expected, rtol=2e-3, err_msg=name
                )
        assert measured["masked"] == [0.0] * 7
    ratios = [v["update_ratio"][-1] for v in found["variables"].values()]
    assert history.history["update_ratio"][-1] == np.median(ratios)
    assert len(history.history["adam_ratio"]) == 2


@not_on_jax
def test_embeddings_that_do_not_move_are_seen():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(10, 3, name="words"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, name="last"),
        ]
    )
    lstm = rules.CoordinatewiseLSTM(units=(4,))
    rule = rules.Partition([("words", rules.SGD(0.0))], lstm)
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), "mse")
    monitor = keras_l2l.callbacks.UpdateMonitor(5)
    fit(model, monitor, TOKENS)
    words, kernel, _ = monitor.history["variables"].values()
    assert max(words["update_ratio"]) == 0 and min(words["adam_ratio"]) > 0
    assert min(kernel["update_ratio"]) > 0
    # Half of the rows stand for no token; not all others are in a batch.
    assert words["masked"][0] >= words["masked"][-1] == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:.*trainable weights:UserWarning")
def test_a_frozen_model_has_nothing_to_measure():
    model = dense_model(keras_l2l.LearnedOptimizer(rule=rules.SGD()))
    model.trainable = False
    # TensorFlow's `fit` would not build it.
    model.optimizer.build(model.trainable_variables)
    monitor = keras_l2l.callbacks.UpdateMonitor()
    history = fit(model, monitor)
    assert len(history.history["loss"]) == 1 and monitor.history["step"] == []


@not_on_jax
@pytest.mark.parametrize("rule", [None, "l2l_digits_mlp"])
def test_a_dead_layer_is_seen(rule, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(
                4, "relu", bias_initializer=keras.initializers.Constant(-100)
            ),
            keras.layers.Dense(1, use_bias=False, name="last"),
        ]
    )
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), "mse")
    monitor = keras_l2l.callbacks.UpdateMonitor(2)
    fit(model, monitor)
    for measured in monitor.history["variables"].values():
        assert set(measured["masked"]) == {1.0}
        assert set(measured["update_ratio"]) == {0.0}
    labels = [line.get_label() for line in monitor.plot().axes[0].lines]
    why = "does not move: gradients of 0"
    assert sum(why in label for label in labels) == 3


def test_skipped_steps_and_a_guard():
    y = Y.copy()
    y[5] = np.nan
    rule = rules.Guarded(rules.SGD(1e30), rules.SGD(0.01), patience=5)
    monitor = keras_l2l.callbacks.UpdateMonitor(1)
    fit(dense_model(keras_l2l.LearnedOptimizer(rule=rule)), monitor, y=y)
    assert monitor.history["skipped_steps"][-1] >= 1
    first, *_ = [s for s in monitor.history["handed_over"] if s]
    assert monitor.history["handed_over"][0] is None and first > 1
    for measured in monitor.history["variables"].values():
        assert np.isfinite(measured["adam_rms"]).all()


def test_nothing_is_left_and_training_is_the_same(tmp_path):
    path = tmp_path / "model.keras"
    save = keras.callbacks.ModelCheckpoint(path)
    plain = dense_model(keras_l2l.LearnedOptimizer(rule=LSTM))
    watched = dense_model(keras_l2l.LearnedOptimizer(rule=LSTM))
    fit(plain, keras.callbacks.Callback())
    monitor = keras_l2l.callbacks.UpdateMonitor(4)
    fit(watched, monitor, callbacks=[save])
    for a, b in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    number = len(plain.optimizer.variables)
    assert len(watched.optimizer.variables) == number
    assert len(keras.models.load_model(path).optimizer.variables) == number
    # A later fit measures no more, and another monitor starts anew.
    fit(watched, keras.callbacks.Callback())
    assert monitor.history["step"] == [1, 5, 9]
    other = keras_l2l.callbacks.UpdateMonitor(4)
    fit(watched, other)
    assert other.history["step"] == [21, 25, 29]
    # The first step of a fit is measured, whatever its number.
    third = keras_l2l.callbacks.UpdateMonitor(100)
    fit(watched, third)
    assert third.history["step"] == [31]


def test_accumulated_gradients_count_once():
    monitor = keras_l2l.callbacks.UpdateMonitor(2)
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.SGD(0.01), gradient_accumulation_steps=2
    )
    fit(dense_model(optimizer), monitor)
    assert monitor.history["step"] == [1, 3, 5]


@not_on_jax
def test_what_it_writes_and_draws(tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    from tensorboard.backend.event_processing import event_accumulator

    monitor = keras_l2l.callbacks.UpdateMonitor(5, tmp_path / "logs")
    with pytest.raises(ValueError, match="must have measured"):
        monitor.plot()
    model = dense_model(keras_l2l.LearnedOptimizer(rule=rules.SGD(0.01)))
    fit(model, monitor)
    logs = event_accumulator.EventAccumulator(str(tmp_path / "logs"))
    logs.Reload()
    path = model.variables[0].path
    scalars = logs.Scalars(f"update_rms/{path}")
    assert [s.step for s in scalars] == [1, 6]
    np.testing.assert_allclose(
        [s.value for s in scalars],
        monitor.history["variables"][path]["update_rms"],
        rtol=1e-6,
    )
    assert [s.value for s in logs.Scalars("skipped_steps")] == [0, 0]
    figure = monitor.plot(tmp_path / "updates.png")
    ratios, shares = figure.axes
    labels = [text.get_text() for text in ratios.get_legend().get_texts()]
    assert labels == [v.path for v in model.variables]
    assert len(shares.lines) == len(labels)
    assert (tmp_path / "updates.png").stat().st_size > 1000


def test_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="exactly one LearnedOptimizer"):
        fit(dense_model("adam"), keras_l2l.callbacks.UpdateMonitor())
    with pytest.raises(ValueError, match="`interval` must be an int"):
        keras_l2l.callbacks.UpdateMonitor(0)


@on_tensorflow
@pytest.mark.parametrize(
    "arguments",
    [{"steps_per_execution": 5}, {"run_eagerly": True}, {"jit_compile": True}],
    ids=str,
)
def test_ways_to_compile(arguments):
    monitor = keras_l2l.callbacks.UpdateMonitor(5)
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.SGD(0.01))
    fit(dense_model(optimizer, **arguments), monitor, epochs=2)
    # Of the steps of one execution only the last measurement is left.
    assert monitor.history["step"] == [1, 6, 11, 16]


@on_tensorflow
def test_a_model_that_is_built_while_it_trains():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras_l2l.LearnedOptimizer(rule=rules.SGD(0.01)), "mse")
    monitor = keras_l2l.callbacks.UpdateMonitor(5)
    fit(model, monitor)
    assert monitor.history["step"] == [1, 6]
    assert all(
        min(v["update_rms"]) > 0 for v in monitor.history["variables"].values()
    )


@on_tensorflow
def test_half_precision():
    model = dense_model(keras_l2l.LearnedOptimizer(rule=rules.SGD(0.01)))
    model.compile(keras.optimizers.LossScaleOptimizer(model.optimizer), "mse")
    monitor = keras_l2l.callbacks.UpdateMonitor(5)
    fit(model, monitor)
    assert monitor.history["step"] == [1, 6]


@on_tensorflow
@pytest.mark.parametrize("rule", ["l2l_digits_mlp", "l2l_varied"])
def test_replicas_measure_what_one_device_does(strategy, rule):
    histories = []
    for scope in (contextlib.nullcontext(), strategy.scope()):
        with scope:
            model = dense_model(keras_l2l.LearnedOptimizer(rule=rule))
        monitor = keras_l2l.callbacks.UpdateMonitor(3)
        fit(model, monitor)
        histories.append(monitor.history)
    one, two = histories
    assert two["step"] == one["step"] == [1, 4, 7, 10]
    assert len(one["variables"]) == len(two["variables"]) > 1
    for a, b in zip(*(h["variables"].values() for h in histories), strict=True):
        for name, values in a.items():
            np.testing.assert_allclose(b[name], values, rtol=1e-4)
