"""What a task computes is what Keras computes in `fit` and `evaluate`."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import rules
from keras_l2l import tasks

N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = RNG.normal(size=(N, 1))
WEIGHTS = RNG.uniform(0.1, 3.0, size=N)
A, B = X[:, :1], RNG.normal(size=(N, 2))
C, D = Y, RNG.integers(0, 3, size=N)
CROSS_ENTROPY = functools.partial(
    keras.losses.SparseCategoricalCrossentropy, from_logits=True
)


def one_output():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def two_outputs(as_dict=False):
    a, b = keras.Input((1,), name="a"), keras.Input((2,), name="b")
    hidden = keras.layers.Concatenate()([a, b])
    hidden = keras.layers.Dense(
        4, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1)
    )(hidden)
    c = keras.layers.Dense(1, name="c")(hidden)
    d = keras.layers.Dense(3, name="d")(hidden)
    if as_dict:
        return keras.Model({"a": a, "b": b}, {"c": c, "d": d})
    return keras.Model([a, b], [c, d])


def masked():
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(5, 3, mask_zero=True),
            keras.layers.Dense(1),
        ]
    )


class OwnLosses(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        self.add_loss(x[0])
        return x


def with_own_losses():
    return keras.Sequential(
        [keras.Input((3,)), OwnLosses(), keras.layers.Dense(1)]
    )


class OwnComputeLoss(keras.Model):
    """A functional model that computes its loss from its inputs, too."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        found = keras.ops.mean(x**2 * y_pred)
        found += keras.ops.mean(keras.ops.abs(self.layers[-1].kernel))
        if self._compile_loss is None:
            return found
        return found + super().compute_loss(x, y, y_pred, sample_weight)


def with_own_compute_loss():
    x = keras.Input((3,))
    return OwnComputeLoss(x, keras.layers.Dense(1)(OwnLosses()(x)))


def absolute(y, prediction):
    return tf.abs(y - prediction)


# By name: how to make a model, arguments of `compile`, x, y, sample weights.
FORMS = {
    "pair": (one_output, {"loss": "mse"}, X, Y, None),
    "weights": (one_output, {"loss": "mse"}, X, Y, WEIGHTS),
    "whole weights": (
        one_output,
        {"loss": keras.losses.Huber()},
        X,
        Y,
        np.arange(N),
    ),
    "flat labels": (one_output, {"loss": "mae"}, X, Y[:, 0], WEIGHTS),
    "a function": (one_output, {"loss": absolute}, X, Y, WEIGHTS),
    "weighted mean": (
        one_output,
        {
            "loss": keras.losses.MeanSquaredError(
                reduction="mean_with_sample_weight"
            )
        },
        X,
        Y,
        WEIGHTS,
    ),
    "sum": (
        one_output,
        {"loss": keras.losses.MeanSquaredError(reduction="sum")},
        X,
        Y,
        None,
    ),
    "one loss weight": (
        one_output,
        {"loss": "mse", "loss_weights": 0.3},
        X,
        Y,
        None,
    ),
    "crossentropy": (
        lambda: keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(3, activation="softmax")]
        ),
        {"loss": "crossentropy"},
        X,
        D,
        None,
    ),
    "lists": (
        two_outputs,
        {"loss": ["mse", CROSS_ENTROPY()], "loss_weights": [2.0, 0.5]},
        [A, B],
        [C, D],
        None,
    ),
    "lists and one weight": (
        two_outputs,
        {"loss": ["mse", CROSS_ENTROPY()]},
        [A, B],
        [C, D],
        WEIGHTS,
    ),
    "lists and weights": (
        two_outputs,
        {"loss": ["mse", CROSS_ENTROPY()]},
        [A, B],
        [C, D],
        [WEIGHTS, WEIGHTS**2],
    ),
    "losses by name": (
        two_outputs,
        {
            "loss": {"d": CROSS_ENTROPY(), "c": "mse"},
            "loss_weights": {"c": 3.0, "d": 0.5},
        },
        {"b": B, "a": A},
        {"c": C, "d": D},
        None,
    ),
    "dicts": (
        functools.partial(two_outputs, as_dict=True),
        {
            "loss": {"d": CROSS_ENTROPY(), "c": "mse"},
            "loss_weights": {"d": 0.5, "c": 3.0},
        },
        {"b": B, "a": A},
        {"d": D, "c": C},
        {"c": WEIGHTS, "d": WEIGHTS**2},
    ),
    "no loss of one": (
        two_outputs,
        {"loss": ["mse", None]},
        [A, B],
        [C, D],
        None,
    ),
    "a mask": (
        masked,
        {"loss": "mse"},
        RNG.integers(0, 5, size=(N, 4)),
        RNG.normal(size=(N, 4, 1)),
        None,
    ),
    "losses of a layer": (with_own_losses, {"loss": "mse"}, X, Y, WEIGHTS),
    "compute_loss": (with_own_compute_loss, {"loss": "mse"}, X, Y, WEIGHTS),
    "compute_loss alone": (with_own_compute_loss, {"loss": None}, X, Y, None),
}


def make_task(name, data=None, **arguments):
    make_model, compiled, *default = FORMS[name]
    data = data or tuple(default)
    return tasks.KerasModelTask(
        make_model, data=data, batch_size=8, **compiled, **arguments
    )


def models_of(task, name, seed=0):
    """Returns the compiled model whose parameters the task begins with."""
    make_model, compiled, *_ = FORMS[name]
    model = make_model()
    model.set_weights(leaves(task.init_params(seed)))
    model.compile("sgd", **compiled)
    return model


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("name", FORMS)
def test_the_loss_is_that_of_keras(name):
    task = make_task(name)
    batch = task.batches("train", 0)(tf.constant(1))
    loss, gradients = losses_and_gradients(task, task.init_params(0), batch)
    model = models_of(task, name)
    before = leaves(model.trainable_variables)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    expected = model.train_on_batch(
        x, y, sample_weight=sample_weight, return_dict=True
    )["loss"]
    assert loss == pytest.approx(expected, rel=1e-5)
    # Gradients, from a step of SGD at its rate of 0.01.
    for gradient, old, new in zip(
        gradients, before, leaves(model.trainable_variables), strict=True
    ):
        np.testing.assert_allclose(gradient, (old - new) / 0.01, atol=1e-4)


@tf.function(autograph=False)
def _losses_and_gradients(task, params, batch):
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss = task.loss(params, batch)
    return loss, tape.gradient(
        loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def losses_and_gradients(task, params, batch):
    loss, gradients = _losses_and_gradients(task, params, batch)
    return float(loss), [tf.convert_to_tensor(g).numpy() for g in gradients]


@pytest.mark.parametrize("name", ["weights", "lists and weights", "dicts"])
def test_metrics_are_those_of_keras(name):
    *_, x, y, sample_weight = FORMS[name]
    data = {split: (x, y, sample_weight) for split in tasks.SPLITS}
    task = make_task(name, data)
    task_with_metrics = make_task(name, data, metrics=_metrics(name))
    params = task.init_params(0)
    assert task.metrics(params, [], "test") == {}
    found = task_with_metrics.metrics(params, [], "test")
    model = models_of(task, name)
    make_model, compiled, *_ = FORMS[name]
    model.compile(**compiled, metrics=_metrics(name))
    # In one batch: Keras weighs the losses of outputs by batches.
    expected = model.evaluate(
        x, y, N, sample_weight=sample_weight, return_dict=True, verbose=0
    )
    assert [*found] == [*expected]
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5)


def _metrics(name):
    return {
        "weights": ["mae"],
        "lists and weights": [["mae"], ["accuracy"]],
        "dicts": {"c": ["mae"], "d": ["accuracy"]},
    }[name]


def test_a_weight_of_zero_is_an_example_less():
    weights = np.where(np.arange(N) % 2, 0.0, 2.0)
    data = {split: (X, Y, weights) for split in tasks.SPLITS}
    task = make_task("weights", data)
    half = {split: (X[::2], Y[::2]) for split in tasks.SPLITS}
    other = make_task("pair", half)
    params = task.init_params(0)
    found, expected = (
        one.loss(params, one.data["train"]) for one in (task, other)
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "name",
    ["sum", pytest.param("lists", marks=pytest.mark.slow), "compute_loss"],
)
def test_replicas_have_the_same_losses(strategy, tmp_path, name):
    # Keras divides losses by the number of replicas, but not all of them.
    losses = [
        keras_l2l.meta_train(
            rules.Momentum(),
            make_task(name),
            tmp_path / str(one is None),
            horizon=2,
            estimator=estimators.TruncatedBackprop(unroll_length=2),
            meta_batch_size=2,
            meta_steps=2,
            validation=meta_training.Validation(episodes=1),
            verbose=0,
            strategy=one,
        ).history["meta_loss"]
        for one in (None, strategy)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.parametrize("loss", ["foo", {"a": "foo"}, 3, [None], None])
def test_no_loss(loss):
    with pytest.raises(ValueError, match="`loss` must be "):
        tasks.KerasModelTask(one_output, loss, (X, Y))


def test_compute_loss_sees_variables_and_whether_it_is_training():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.dropout = keras.layers.Dropout(0.5)
            self.tracker = keras.metrics.Mean(name="tracker")
            self.build((None, 3))

        def build(self, input_shape):
            self.dense.build(input_shape)
            self.built = True

        def call(self, x, training=False):
            return self.dense(self.dropout(x, training=training))

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            kernel = keras.ops.sum(self.dense.kernel)
            self.tracker.update_state(kernel)
            return keras.ops.where(training, kernel, 0.0) + keras.ops.mean(
                keras.ops.square(y - y_pred)
            )

    task = tasks.KerasModelTask(Model, None, (X, Y), 8, metrics=[])
    params, state = task.init_params(0), task.init_non_trainable(0)
    batch = task.batches("train", 0)(tf.constant(0))
    other = [p + 1.0 for p in params]
    of_both = [
        float(task.evaluation_loss(values, state, batch))
        for values in (params, other)
    ]
    outputs = [batch[0] @ kernel + bias for kernel, bias in (params, other)]
    np.testing.assert_allclose(
        of_both, [np.mean((batch[1] - o) ** 2) for o in outputs], rtol=1e-5
    )
    losses = []
    for _ in range(2):
        loss, state = task.stateful_loss(params, state, batch)
        losses.append(float(loss))
    # Dropout draws anew.
    assert losses[0] != losses[1]
    found = task.metrics(leaves(params), leaves(state), "test")
    assert found["tracker"] == pytest.approx(float(tf.reduce_sum(params[0])))


class Scaled(keras.Model):
    """A subclass with a compile of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def compile(self, optimizer="sgd", scale=1.0, metrics=None):
        super().compile(optimizer, metrics=metrics)
        self.scale = scale

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return self.scale * keras.ops.mean(keras.ops.square(y - y_pred))


def scaled(**compiled):
    model = Scaled()
    model(X[:1])
    if compiled:
        model.compile(**compiled)
    return model


def test_what_make_model_compiles_stays():
    batch = tuple(tf.constant(t, "float32") for t in (X, Y))

    def loss(make_model, **arguments):
        task = tasks.KerasModelTask(make_model, None, (X, Y), **arguments)
        params = task.init_params(0)
        return float(task.loss(params, batch)), task.metrics(params, [], "test")

    once, _ = loss(scaled)
    three_times, _ = loss(functools.partial(scaled, scale=3.0))
    assert three_times == pytest.approx(3 * once)
    # A comparison that goes on must be of the same loss.
    configs = [
        tasks.KerasModelTask(
            functools.partial(scaled, scale=scale), None, (X, Y)
        ).get_config()
        for scale in (1.0, 1.0, 3.0)
    ]
    assert configs[0] == configs[1] != configs[2]
    assert "mae" in loss(scaled, metrics=["mae"])[1]
    compiled = functools.partial(scaled, metrics=["mae"])
    assert "mae" in loss(compiled, metrics=[])[1]
    with pytest.raises(ValueError, match="Pass them to compile"):
        loss(functools.partial(scaled, scale=3.0), metrics=["mae"])
    with pytest.raises(ValueError, match="compile of Scaled must accept loss"):
        tasks.KerasModelTask(scaled, "mse", (X, Y))


def test_a_function_that_is_set_as_compute_loss_is_used():
    def make_model():
        model = one_output()
        model.compute_loss = lambda x, y, y_pred, *args, **kwargs: (
            7 * keras.ops.mean(y_pred**2)
        )
        return model

    task = tasks.KerasModelTask(make_model, "mse", (X, Y))
    kernel, bias = task.init_params(0)
    batch = tuple(tf.constant(t, "float32") for t in (X, Y))
    np.testing.assert_allclose(
        task.loss([kernel, bias], batch),
        7 * tf.reduce_mean((batch[0] @ kernel + bias) ** 2),
        rtol=1e-5,
    )


def test_batches_of_a_subclass_are_batches():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            if isinstance(inputs, dict):
                inputs = inputs["a"] + inputs["b"]
            return self.dense(inputs)

    def make_model(x):
        model = Model()
        model(x)
        return model

    for x in (X, {"a": X, "b": X}):
        examples = tf.data.Dataset.from_tensor_slices((x, Y))
        first, batched = (
            tasks.KerasModelTask(
                functools.partial(
                    make_model, tf.nest.map_structure(lambda t: t[:1], x)
                ),
                "mse",
                data,
            )
            for data in (examples, examples.batch(8))
        )
        found, expected = (t.get_config()["examples"] for t in (batched, first))
        assert found == expected == {"train": 24, "meta_valid": 8, "test": 8}


LAYERS = {
    "kernel": lambda: keras.layers.SpectralNormalization(keras.layers.Dense(1)),
    "stateful_gru": lambda: keras.layers.GRU(
        1, stateful=True, name="stateful_gru"
    ),
    # Nothing that a task does not keep.
    None: keras.layers.BatchNormalization,
}


@pytest.mark.parametrize("path", LAYERS)
def test_what_a_call_changes_and_no_task_keeps(path, caplog):
    def make_model():
        return keras.Sequential(
            [keras.Input((2, 3), batch_size=4), LAYERS[path]()]
        )

    x = np.ones((40, 2, 3), "float32")
    y = np.ones((40, *make_model().output_shape[1:]), "float32")
    tasks.KerasModelTask(make_model, "mse", (x, y), batch_size=4)
    assert [path in r.message for r in caplog.records] == [True] * bool(path)


def test_an_own_train_step_is_not_used(caplog):
    class Model(keras.Sequential):
        def train_step(self, data):
            raise AssertionError

    def make_model():
        return Model([keras.Input((3,)), keras.layers.Dense(1)])

    tasks.KerasModelTask(make_model, "mse", (X, Y))
    (record,) = caplog.records
    assert "train_step of Model is not used" in record.message
    caplog.clear()
    tasks.KerasModelTask(one_output, "mse", (X, Y))
    tasks.KerasModelTask(with_own_compute_loss, "mse", (X, Y))
    assert not caplog.records
