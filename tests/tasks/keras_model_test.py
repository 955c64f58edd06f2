import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves
from conftest import regression_task

import keras_l2l
from keras_l2l import evaluation
from keras_l2l import tasks
from keras_l2l.utils import files

X = np.arange(300.0).reshape(100, 3) / 100
Y = X.sum(axis=1, keepdims=True)


def linear():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def stateful():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )


def test_curve_equals_keras_own_training():
    # batch_size = all examples of a constant data set: every batch is equal.
    x, y = np.ones((50, 3), "f4"), np.full((50, 1), 2.0, "f4")
    task = tasks.KerasModelTask(linear, "mse", (x, y))
    curve = evaluation.training_curve(
        lambda: keras.optimizers.Adam(0.1), task, 6, "test", 0
    )
    model = linear()
    seed = tasks.base.split_seed("test", 0)
    model.set_weights(leaves(task.init_params(seed)))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    losses = []
    for _ in range(6):
        model.train_on_batch(x, y)
        losses.append(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(curve, losses, rtol=1e-4)


def test_metrics_are_those_of_keras():
    data = {split: (X[i::3], Y[i::3]) for i, split in enumerate(tasks.SPLITS)}
    task = tasks.KerasModelTask(stateful, "mse", data, metrics=["mae"])
    model = stateful()
    model.compile("sgd", "mse", metrics=["mae"])
    # Statistics move, and only the test's data are evaluated on.
    model.fit(*data["train"], epochs=3, verbose=0)
    expected = model.evaluate(*data["test"], verbose=0, return_dict=True)
    found = task.metrics(
        [v.numpy() for v in model.trainable_variables],
        [v.numpy() for v in model.non_trainable_variables],
        "test",
    )
    assert [*found] == [*expected]
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5)
    without = tasks.KerasModelTask(stateful, "mse", data)
    params, state = without.init_params(0), without.init_non_trainable(0)
    assert without.metrics(params, state, "test") == {}


def test_dropout_changes_and_batch_norm_moves_with_every_step():
    task = tasks.KerasModelTask(stateful, "mse", (X, Y))
    params, state = task.init_params(0), task.init_non_trainable(0)
    batch = task.batches("train", 0)(tf.constant(0))
    losses = []
    for _ in range(3):
        loss, new_state = task.stateful_loss(params, state, batch)
        losses.append(float(loss))
        assert [s.shape for s in new_state] == [s.shape for s in state]
        for a, b in zip(leaves(new_state), leaves(state), strict=True):
            assert np.abs(a.astype("f8") - b).max() > 0
        state = new_state
    assert len(set(losses)) == 3


def test_losses_of_the_model_count():
    def make_model(strength):
        return keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(
                    1, kernel_regularizer=keras.regularizers.L2(strength)
                ),
            ]
        )

    losses = []
    for strength in (0.0, 0.5):
        task = tasks.KerasModelTask(
            lambda s=strength: make_model(s), "mse", (X, Y)
        )
        params = task.init_params(0)
        batch = task.batches("train", 0)(tf.constant(0))
        losses.append(float(task.loss(params, batch)))
    penalty = 0.5 * np.sum(np.square(params[0]))
    assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-4)


# What an initializer may draw from.
DRAWS = (
    lambda shape, dtype=None: np.random.normal(size=shape),
    lambda shape, dtype=None: keras.random.normal(shape),
    lambda shape, dtype=None: tf.random.normal(shape),
)


def drawing():
    """Returns a model whose initializers draw from every generator."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            *(keras.layers.Dense(1, kernel_initializer=draw) for draw in DRAWS),
        ]
    )


@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize("make_model", [stateful, drawing])
def test_models_leave_the_callers_generators_alone(make_model, seeded):
    def draw():
        layer = keras.layers.Dense(1)
        layer.build((3,))
        return (
            random.random(),
            np.random.random(),
            layer.name,
            *map(
                float,
                (
                    layer.kernel[0, 0],
                    keras.random.normal(()),
                    # Without a seed, nothing repeats TensorFlow's numbers.
                    tf.random.normal(()) if seeded else 0.0,
                ),
            ),
            *(([*tf.random.shuffle(tf.range(9)).numpy()],) if seeded else ()),
        )

    def draws(between):
        keras.backend.clear_session()
        keras.utils.set_random_seed(7)
        if not seeded:
            tf.random.set_seed(None)
        found = [draw()]
        between()
        return [*found, draw(), draw()]

    def train_one():
        task = tasks.KerasModelTask(make_model, "mse", (X, Y), metrics=["mae"])
        for seed in range(40):
            params = task.init_params(seed)
            state = task.init_non_trainable(seed)
        task.metrics(params, state, "test")
        task.variables()

    expected = draws(lambda: None)
    assert draws(train_one) == expected


def test_models_leave_tensorflows_graphs_and_counts_alone(monkeypatch):
    task = regression_task()

    def draw():
        return float(tf.random.uniform((), seed=3))

    tf.random.set_seed(1)
    expected = draw(), draw()
    tf.random.set_seed(1)
    found = [draw()]
    # It would empty TensorFlow's caches, which costs each episode 0.4 s.
    monkeypatch.setattr(tf.random, "set_seed", None)
    kernels = [task.init_params(seed)[0].numpy() for seed in range(40)]
    assert len({kernel.tobytes() for kernel in kernels}) == 40
    assert (*found, draw()) == expected


def test_models_of_a_task_have_the_same_names():
    # TensorFlow keeps 0.3 MB for those of every model.
    shared = keras.layers.Dense(2)
    names = []

    def make_model():
        model = keras.Sequential(
            [keras.Input((3,)), shared, keras.layers.Dense(1)]
        )
        names.append([layer.name for layer in model.layers])
        return model

    task = tasks.KerasModelTask(make_model, "mse", (X, Y))
    keras.layers.Dense(1)
    task.init_params(1)
    assert len(names) > 2 and names == names[:1] * len(names)
    assert names[0][0] != names[0][1]


def test_seed_decides_whatever_the_model_draws_from():
    task = tasks.KerasModelTask(drawing, "mse", (X, Y))
    first, other, again = (leaves(task.init_params(s)) for s in (1, 2, 1))
    # The kernels: each draws from another generator.
    for kernel in (0, 2, 4):
        np.testing.assert_array_equal(first[kernel], again[kernel])
        assert not np.array_equal(first[kernel], other[kernel])


def test_integer_inputs_and_functions_as_losses():
    task = tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(7, 3),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(2),
            ]
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        (np.arange(30)[:, None] // 5 * np.ones(4, int), np.arange(30) // 15),
    )
    curve = evaluation.training_curve(
        lambda: keras_l2l.LearnedOptimizer(rule=keras_l2l.rules.SGD(1.0)),
        task,
        30,
        "train",
        0,
    )
    assert curve[-1] < 0.5 * curve[0]
    task = tasks.KerasModelTask(
        linear, lambda y, prediction: tf.abs(y - prediction), (X, Y)
    )
    batch = task.batches("train", 0)(tf.constant(0))
    assert task.loss(task.init_params(0), batch).shape == ()


def test_data_are_divided_without_overlap():
    task = tasks.KerasModelTask(linear, "mse", (X, Y))
    rows = {
        split: {
            tuple(row)
            for step in range(60)
            for row in task.batches(split, 0)(tf.constant(step))[0].numpy()
        }
        for split in tasks.SPLITS
    }
    assert {s: len(r) for s, r in rows.items()} == {
        "train": 60,
        "meta_valid": 20,
        "test": 20,
    }
    assert len(set.union(*rows.values())) == 100


def test_a_data_set_and_arrays_give_the_same_task():
    arrays = tasks.KerasModelTask(linear, "mse", (X, Y))
    stream = tf.data.Dataset.from_tensor_slices((X, Y))
    dataset = tasks.KerasModelTask(linear, "mse", stream)
    for a, b in zip(
        arrays.batches("test", 3)(tf.constant(1)),
        dataset.batches("test", 3)(tf.constant(1)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_own_splits():
    data = {s: (X + i, Y) for i, s in enumerate(tasks.SPLITS)}
    task = tasks.KerasModelTask(linear, "mse", data)
    for i, split in enumerate(tasks.SPLITS):
        x, y = task.batches(split, 0)(tf.constant(0))
        np.testing.assert_allclose(
            np.sum(x, 1, keepdims=True), y + 3 * i, rtol=1e-5
        )


@pytest.mark.parametrize(
    "data, message",
    [
        ((X, Y[:-1]), "Received: 99 and 100"),
        (X, "must be a pair"),
        ((X[:4], Y[:4]), "at least 5 examples"),
        ({"train": (X, Y)}, "keys train, meta_valid, test. Received: train"),
        ((1.0, 2.0), "leading axis"),
    ],
)
def test_bad_data(data, message):
    with pytest.raises(ValueError, match=message):
        tasks.KerasModelTask(linear, "mse", data)


def test_endless_data():
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).repeat()
    with pytest.raises(ValueError, match=r"without \.repeat"):
        tasks.KerasModelTask(linear, "mse", stream)


@pytest.mark.parametrize(
    "make_model",
    [lambda: 3, lambda: keras.Sequential([keras.layers.Dense(1)])],
    ids=["no model", "not built"],
)
def test_bad_model(make_model):
    with pytest.raises(ValueError, match="must return a built keras.Model"):
        tasks.KerasModelTask(make_model, "mse", (X, Y))


def test_one_model_every_time_is_refused():
    model = linear()
    with pytest.raises(ValueError, match="new keras.Model each time"):
        tasks.KerasModelTask(lambda: model, "mse", (X, Y))


def test_a_subclass_without_a_config_is_described():
    class Model(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.dense = keras.layers.Dense(units())

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x)

    def make_model():
        model = Model(lambda: 1)
        model.build((None, 3))
        return model

    task = tasks.KerasModelTask(make_model, "mse", (X, Y), name="mine")
    description = task.get_config()["model"]
    # Older versions of Keras have a configuration of it, newer ones not.
    assert description["class_name"] == "Model"
    assert description.get("shapes", [[3, 1], [1]]) == [[3, 1], [1]]
    assert files.to_json(description)
    batch = task.batches("train", 0)(tf.constant(0))
    assert np.isfinite(task.loss(task.init_params(1), batch))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"make_model": linear()}, "Build the model inside a function"),
        ({"make_model": None}, "`make_model` must be a function"),
        ({"loss": None}, "`loss` must be a Keras loss"),
        ({"batch_size": 0}, "`batch_size` must be an int"),
        ({"batch_size": 1.5}, "`batch_size` must be an int"),
        ({"data": (X[:, :2], Y)}, r"\[32, 2\], \[32, 1\].*incompatible"),
        ({"data": (X * np.nan, Y)}, "Look for NaN in the data"),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(arguments, message):
    fitting = {"make_model": linear, "loss": "mse", "data": (X, Y)}
    with pytest.raises(ValueError, match=message) as error:
        tasks.KerasModelTask(**{**fitting, **arguments})
    assert "batches" not in str(error.value)


def test_the_description_tells_data_apart():
    def sha256(x):
        task = tasks.KerasModelTask(linear, "mse", (x, Y))
        return task.get_config()["sha256"]

    changed = X.copy()
    changed[0] += 1
    assert sha256(X) == sha256(X.copy())
    assert sha256(X) != sha256(changed)
