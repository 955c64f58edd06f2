"""What leaves as SavedModel goes on, bit for bit.

What else holds of an exported rule is in export_rule_test.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM
from conftest import assert_same
from conftest import leaves
from keras import layers
from plain_tensorflow import in_plain_tensorflow

import keras_l2l
from keras_l2l import export
from keras_l2l import rules

pytestmark = pytest.mark.usefixtures("optimized_graphs")
RNG = np.random.default_rng(0)
# The batches differ in size.
X = [RNG.normal(size=(n, 3)).astype("float32") for n in (8, 8, 5, 8)]
Y = [x.sum(axis=1, keepdims=True) ** 2 for x in X]

GOES_ON = """
def train(step, i):
    return float(step.train_step(data[f"x{i}"], data[f"y{i}"])["loss"])

first = tf.saved_model.load("step")
losses = [train(first, 0), train(first, 1)]
checkpoint = tf.train.Checkpoint(first).save("checkpoint")
tf.saved_model.save(first, "again", signatures=first.signatures)
again = tf.saved_model.load("again")
restored = tf.saved_model.load("step")
tf.train.Checkpoint(restored).restore(checkpoint).assert_consumed()
losses.append(train(again, 2))
signature = again.signatures["train_step"]
result = signature(x=tf.constant(data["x3"]), y=tf.constant(data["y3"]))
losses.append(float(result["loss"]))
assert [train(restored, 2), train(restored, 3)] == losses[2:]
variables = {
    f"{name}_{kind}_{i}": variable
    for name, step in {"again": again, "restored": restored}.items()
    for kind in ("model", "optimizer")
    for i, variable in enumerate(getattr(step, kind))
}
predictions = again.signatures["predict"](tf.constant(data["x0"]))
results = {"losses": losses, **predictions, **variables}
"""
UPDATES = """
for rule in ("lstm", "adam"):
    loaded = tf.saved_model.load(rule)
    for n in (1, 7, 1000):
        params = tf.ones(n)
        state = loaded.signatures["initial_state"](n=tf.constant(n))
        for gradient in data[str(n)]:
            result = loaded.signatures["update"](
                gradient=tf.constant(gradient), **state
            )
            params += result.pop("update")
            state = result
        assert int(state["iteration"]) == 3
        results[f"{rule}_{n}"] = params
np.savez("results.npz", **results)
"""
OPTIMIZERS = {
    "lstm": lambda: keras_l2l.LearnedOptimizer(rule=LSTM),
    "adam": lambda: keras_l2l.LearnedOptimizer(rule=rules.Adam(0.1)),
}


def train_on_batch(model, x, y, **arguments):
    """Trains on a batch; returns its own metrics, also with an old Keras."""
    model.reset_metrics()
    return model.train_on_batch(x, y, **arguments)


def regression(optimizer=None, **arguments):
    """Returns a compiled model with dropout and batch normalization."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(5, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model.compile(
        # XLA sums in another order there; other presets magnify that more.
        optimizer or keras_l2l.LearnedOptimizer(rule="l2l_digits_mlp"),
        loss="mse",
        **arguments,
    )
    return model


def train_vector(optimizer, gradients):
    """Returns what an optimizer makes of a vector of ones."""
    params = keras.Variable(np.ones(gradients.shape[1], "float32"))
    optimizer.build([params])

    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [params])
    return params.numpy()


def train_vector_by_rule(optimizer, gradients):
    """Trains like `train_vector`, by the rule instead of the optimizer."""
    rule = optimizer.rule
    meta_params = keras.tree.map_structure(
        tf.convert_to_tensor, optimizer.meta_params
    )
    step = tf.function(rule.masked_coordinate_step, jit_compile=True)
    params = tf.ones(gradients.shape[1])
    state = rule.init_coordinate_state(gradients.shape[1])
    for i, gradient in enumerate(gradients):
        mask = tf.ones(gradient.shape, tf.bool)
        update, state = step(
            meta_params, tf.constant(gradient), state, tf.constant(i), mask
        )
        params += update
    return params


def exported_model(folder):
    """Returns a model whose training step is exported."""
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.8)
    model = regression(keras_l2l.LearnedOptimizer(schedule))
    train_on_batch(model, X[3], Y[3])
    before = leaves(model.variables + model.optimizer.variables)
    export.export_training_step(model, folder, (X[0], Y[0]))
    after = leaves(model.variables + model.optimizer.variables)
    assert_same(before, after)
    return model


def assert_trained(model, results):
    losses = [
        float(train_on_batch(model, x, y)) for x, y in zip(X, Y, strict=True)
    ]
    assert list(results["losses"]) == losses
    assert len(set(losses)) == 4
    np.testing.assert_array_equal(
        results["predictions"], model.predict(X[0], verbose=0)
    )
    for name in ("again", "restored"):
        for kind, variables in (
            ("model", model.variables),
            ("optimizer", model.optimizer.variables),
        ):
            for i, expected in enumerate(leaves(variables)):
                received = results[f"{name}_{kind}_{i}"]
                np.testing.assert_array_equal(received, expected)


def assert_updated(gradients, results):
    for name, make in OPTIMIZERS.items():
        for n in gradients:
            received = results[f"{name}_{n}"]
            np.testing.assert_array_equal(
                received, train_vector_by_rule(make(), gradients[n])
            )
            # XLA may round a larger program differently.
            expected = train_vector(make(), gradients[n])
            np.testing.assert_allclose(received, expected, rtol=0, atol=1e-6)
            assert (expected != 1).all()


def test_training_and_updates_go_on_without_keras(tmp_path):
    model = exported_model(tmp_path / "step")
    for name, make in OPTIMIZERS.items():
        export.export_update_rule(make(), tmp_path / name)
    gradients = {
        str(n): RNG.normal(size=(3, n)).astype("float32") for n in (1, 7, 1000)
    }
    arrays = {f"x{i}": x for i, x in enumerate(X)}
    arrays |= {f"y{i}": y for i, y in enumerate(Y)}
    # In one process: TensorFlow's start takes seconds.
    results = in_plain_tensorflow(
        GOES_ON + UPDATES, tmp_path, **arrays, **gradients
    )
    assert_trained(model, results)
    assert_updated(gradients, results)


def many_arguments():
    partition = rules.Partition(
        [("kernel", rules.Adam())], default=rules.CoordinatewiseLSTM()
    )
    return regression(
        keras_l2l.LearnedOptimizer(
            rule=partition,
            global_clipnorm=0.5,
            weight_decay=0.001,
            use_ema=True,
            ema_overwrite_frequency=2,
            gradient_accumulation_steps=2,
        )
    )


def mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return regression()
    finally:
        keras.config.set_dtype_policy(policy)


class OwnTrainStep(keras.Sequential):
    """Trains its own way."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(self(x, training=True) - y))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"own": loss}


def own_train_step():
    model = OwnTrainStep([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras_l2l.LearnedOptimizer())
    return model


def recurrent():
    """Returns a model with sparse gradients and sequences of any length."""
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.Lambda(lambda x: keras.ops.cast(x[:, :, 0] > 0, "int32")),
            layers.Embedding(3, 2),
            layers.LSTM(2, dropout=0.2),
            layers.Dense(1),
        ]
    )
    model.compile(keras_l2l.LearnedOptimizer(), loss="mse")
    return model


@pytest.mark.parametrize(
    "make",
    [
        many_arguments,
        mixed_precision,
        own_train_step,
        lambda: regression(jit_compile=True),
        lambda: regression(
            keras.optimizers.Adam(0.01), metrics=["mae", "accuracy"]
        ),
    ],
    ids=["many_arguments", "mixed_precision", "own_train_step", "jit", "adam"],
)
def test_every_kind_of_training_goes_on(tmp_path, make):
    model = make()
    export.export_training_step(model, tmp_path / "step", (X[0], Y[0]))
    loaded = tf.saved_model.load(tmp_path / "step")
    for x, y in zip(X, Y, strict=True):
        expected = train_on_batch(model, x, y, return_dict=True)
        received = loaded.train_step(x, y)
        assert {k: float(v) for k, v in received.items()} == expected
    for kind, variables in (
        (loaded.model, model.variables),
        (loaded.optimizer, model.optimizer.variables),
    ):
        assert_same(list(kind), variables)


def test_open_dimensions_are_given_as_specs(tmp_path):
    model = recurrent()
    spec = tf.TensorSpec([None, None, 3], tf.float32)
    export.export_training_step(model, tmp_path / "step", (spec, Y[0]))
    loaded = tf.saved_model.load(tmp_path / "step")
    for length in (2, 4):
        x = RNG.normal(size=(8, length, 3)).astype("float32")
        expected = train_on_batch(model, x, Y[0])
        assert float(loaded.train_step(x, Y[0])["loss"]) == expected
    spec = loaded.signatures["train_step"].structured_input_signature[1]["x"]
    assert spec.shape.as_list() == [None, None, 3]


def test_nested_inputs_and_outputs(tmp_path):
    inputs = {name: keras.Input((3,), name=name) for name in ("a", "b")}
    total = layers.Add()([inputs["a"], inputs["b"]])
    outputs = {name: layers.Dense(1, name=name)(total) for name in ("p", "q")}
    model = keras.Model(inputs, outputs)
    model.compile(keras_l2l.LearnedOptimizer(), loss={"p": "mse", "q": "mae"})
    # Numpy's float64 is Keras' float32.
    x, y = {"a": X[0], "b": -2.0 * X[1]}, {"p": Y[0], "q": Y[1]}
    doubles = {name: value.astype("float64") for name, value in x.items()}
    export.export_training_step(model, tmp_path / "step", (doubles, y))
    loaded = tf.saved_model.load(tmp_path / "step")
    tensors = {
        f"{prefix}_{name}": tf.constant(value)
        for prefix, nest in (("x", x), ("y", y))
        for name, value in nest.items()
    }
    for train_step in (
        lambda: loaded.train_step(x, y),
        lambda: loaded.signatures["train_step"](**tensors),
    ):
        expected = train_on_batch(model, x, y, return_dict=True)
        assert {k: float(v) for k, v in train_step().items()} == expected
    for name, expected in model.predict(x, verbose=0).items():
        received = loaded.predict(x)[f"predictions_{name}"]
        np.testing.assert_array_equal(received, expected)


def uncompiled():
    return keras.Sequential([keras.Input((3,)), layers.Dense(1)])


def unbuilt():
    model = keras.Sequential([layers.Dense(1)])
    model.compile("adam", loss="mse")
    return model


def distributed():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        return regression()


def with_a_table():
    table = layers.IntegerLookup(vocabulary=[1, 2])
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Lambda(lambda x: keras.ops.cast(x, "int64")),
            table,
            layers.Embedding(3, 1),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", loss="mse")
    return model


@pytest.mark.parametrize(
    "make, batch, message",
    [
        (uncompiled, (X[0], Y[0]), r"must be compiled.*model\.compile"),
        (unbuilt, (X[0], Y[0]), r"must be built.*model\.build"),
        (distributed, (X[0], Y[0]), "on 2 replicas.*load_model"),
        (with_a_table, (X[0], Y[0]), "no resources but variables.*tables"),
        (keras.optimizers.Adam, (X[0], Y[0]), "export_update_rule"),
        (regression, X[0], "pair.*ndarray"),
        (regression, (X[0], 1.0), "batch dimension.*y = "),
        (regression, (X[0][:, :2], Y[0]), "expected axis -1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_failed_export_says_why_and_leaves_nothing(
    tmp_path, make, batch, message
):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        export.export_training_step(make(), tmp_path / "step", batch)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="new or empty"):
        export.export_training_step(regression(), tmp_path, (X[0], Y[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
