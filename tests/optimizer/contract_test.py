"""What works with Adam works with `LearnedOptimizer`.

What Keras' own tests cover (keras_acceptance_test.py) is not repeated here.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM
from conftest import assert_close
from conftest import assert_same
from conftest import leaves

import keras_l2l
from keras_l2l import rules

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TOKENS = np.random.default_rng(1).integers(0, 5, size=(64, 2))
every_execution = pytest.mark.parametrize(
    "execution",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 2},
    ],
    ids=str,
)


@pytest.fixture
def dtype_policy():
    """Sets a global dtype policy, and the one before when the test ends."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def classifier(**arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="sigmoid", name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model.compile(keras_l2l.LearnedOptimizer(**arguments), LOSS)
    return model


def fit(model, epochs=1, x=X, y=Y):
    history = model.fit(
        x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history["loss"]


def state_of(optimizer):
    """Returns the rule's state, one row per coordinate."""
    return np.concatenate([np.asarray(v) for v in optimizer._state]).T


@pytest.mark.parametrize(
    "policy", ["float32", "float64", "float16", "bfloat16", "mixed_float16"]
)
def test_dtype_policies(policy, dtype_policy):
    dtype_policy(policy)
    model = classifier(rule=LSTM)
    losses = fit(model, epochs=10)
    assert losses[-1] < 0.3 * losses[0]
    optimizer = model.optimizer
    if policy == "mixed_float16":
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        optimizer = optimizer.inner_optimizer
    assert {v.dtype for v in optimizer._state} == {"float32"}
    assert (
        model.get_weights()[0].dtype == keras.DTypePolicy(policy).variable_dtype
    )


def test_default_trains_in_half_precision(dtype_policy):
    dtype_policy("bfloat16")
    losses = fit(classifier(), epochs=100)
    assert losses[-1] < 0.3 * losses[0]


def test_overflow_skips_the_whole_step_under_loss_scaling():
    variable = keras.Variable(np.ones(3, "float32"))
    inner = keras_l2l.LearnedOptimizer()
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    optimizer.apply([tf.ones(3)], [variable])
    before = leaves([variable, *inner.variables])
    optimizer.apply([tf.constant([1.0, np.inf, 1.0])], [variable])
    assert_same(before, [variable, *inner.variables])
    optimizer.apply([tf.ones(3)], [variable])
    assert np.all(variable.numpy() != before[0])


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_bad_coordinates_stay_and_the_others_proceed(value):
    def run(gradients):
        variable = keras.Variable(np.ones((2, 2), "float32"))
        optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
        return variable.numpy().ravel(), state_of(optimizer)

    good = [[1.0, 2.0], [3.0, 4.0]]
    bad = [[1.0, value], [3.0, 4.0]]
    one, one_state = run([good])
    two, two_state = run([good, good])
    mixed, mixed_state = run([good, bad])
    for whole, untouched, received in (
        (two, one, mixed),
        (two_state, one_state, mixed_state),
    ):
        np.testing.assert_array_equal(received[1], untouched[1])
        np.testing.assert_allclose(
            received[[0, 2, 3]], whole[[0, 2, 3]], rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_default_leaves_a_bad_coordinate_where_it_is(value):
    optimizer = keras_l2l.LearnedOptimizer()
    variable = keras.Variable(np.ones((2, 2), "float32"))
    for _ in range(3):
        before = variable.numpy()
        optimizer.apply([tf.constant([[1.0, value], [3.0, 4.0]])], [variable])
        moved = variable.numpy() != before
        np.testing.assert_array_equal(moved, [[True, False], [True, True]])
    assert all(np.isfinite(v).all() for v in leaves(optimizer.variables))
    assert np.isfinite(variable.numpy()).all()


@pytest.fixture(scope="module")
def weights_after_good_data():
    """Weights after the half of the data in which nothing is bad."""
    model = classifier()
    fit(model, x=X[:32], y=Y[:32])
    return model.get_weights()


@every_execution
def test_fit_survives_bad_data(execution, weights_after_good_data):
    model = classifier()
    model.compile(keras_l2l.LearnedOptimizer(), LOSS, **execution)
    x = X.copy()
    x[40, 2] = np.nan
    fit(model, x=x)
    # The NaN is in the second batch and reaches every gradient of it.
    assert model.optimizer.iterations.numpy() == 2
    assert all(np.isfinite(w).all() for w in leaves(model.optimizer.variables))
    assert_close(
        model.get_weights(), weights_after_good_data, rtol=1e-6, atol=1e-7
    )


def embedding_model(rule=None, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(9, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), LOSS, **arguments)
    return model


def moved_rows(model):
    """Trains a model on `TOKENS`, and returns which embeddings changed."""
    before = model.get_weights()[0]
    fit(model, epochs=3, x=TOKENS)
    return (model.get_weights()[0] != before).any(axis=1)


@pytest.mark.parametrize("execution", [{}, {"jit_compile": True}], ids=str)
def test_rows_absent_from_the_batch_stay_untouched(execution):
    moved = moved_rows(embedding_model(**execution))
    np.testing.assert_array_equal(moved, np.arange(9) < 5)


@every_execution
def test_state_of_absent_rows_stays_untouched(execution):
    model = embedding_model(rule=LSTM, **execution)
    moved = moved_rows(model)
    np.testing.assert_array_equal(moved, np.arange(9) < 5)
    state = state_of(model.optimizer)[: 9 * 4].reshape(9, -1)
    np.testing.assert_array_equal((state != 0).any(axis=1), moved)


@pytest.mark.parametrize(
    "rule, inner", [(None, (4,)), (LSTM, (2, 3))], ids=["default", "lstm"]
)
def test_dense_on_higher_ranks_with_an_open_batch_size(rule, inner):
    # The gradient of such a kernel has an unknown static shape.
    model = keras.Sequential(
        [
            keras.Input((*inner, 5)),
            keras.layers.Dense(3),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), "mse")
    x = np.random.default_rng(0).normal(size=(10, *inner, 5))
    before = model.get_weights()
    y = x.reshape(10, -1)[:, :2]
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    model.fit(data, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        assert np.isfinite(a).all() and (a != b).any()


def test_sparse_and_dense_gradients_agree_on_touched_rows():
    rows, values = [3, 1, 3], np.arange(12, dtype="float32").reshape(3, 4) - 5
    dense = np.zeros((5, 4), "float32")
    np.add.at(dense, rows, values)
    sparse = tf.IndexedSlices(
        tf.constant(values), tf.constant(rows), tf.constant([5, 4])
    )
    results = []
    for gradient in (sparse, tf.constant(dense)):
        variable = keras.Variable(np.ones((5, 4), "float32"))
        optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
        for _ in range(3):
            optimizer.apply([gradient], [variable])
        state = state_of(optimizer).reshape(5, 4, -1)
        results.append((variable.numpy()[[1, 3]], state[[1, 3]]))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_raw_tensorflow_variables_and_scalars():
    def run(make):
        a, b = make(np.full((2, 3), 2.0, "float32")), make(np.float32(-1.0))
        optimizer = keras_l2l.LearnedOptimizer()
        for _ in range(5):
            optimizer.apply([tf.convert_to_tensor(v) for v in (a, b)], [a, b])
        return leaves([a, b])

    raw, wrapped = run(tf.Variable), run(keras.Variable)
    assert_same(raw, wrapped)
    assert raw[0].max() < 2


def test_variables_overwritten_with_their_gradient():
    scale, weight = (keras.Variable(np.ones(3, "float32")) for _ in range(2))
    scale.overwrite_with_gradient = True
    optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
    optimizer.apply([tf.constant([5.0, 6.0, 7.0]), tf.ones(3)], [scale, weight])
    np.testing.assert_array_equal(scale, [5.0, 6.0, 7.0])
    assert np.all(weight.numpy() != 1) and np.all(weight.numpy() < 2)
    assert state_of(optimizer).shape[0] == 3


def test_weight_decay_and_what_is_excluded_from_it():
    kernel = keras.Variable(np.ones(3, "float32"), name="kernel")
    bias = keras.Variable(np.ones(3, "float32"), name="bias")
    optimizer = keras_l2l.LearnedOptimizer(
        0.5, rule=rules.SGD(0.0), weight_decay=0.004
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([tf.ones(3), tf.ones(3)], [kernel, bias])
    np.testing.assert_allclose(kernel, np.full(3, 0.998), rtol=1e-6)
    np.testing.assert_array_equal(bias, np.ones(3))


def test_learning_rate_may_be_a_callable_and_be_set():
    variable = keras.Variable(np.zeros(2, "float32"))
    optimizer = keras_l2l.LearnedOptimizer(lambda: 0.5, rule=rules.SGD(1.0))
    optimizer.apply([tf.ones(2)], [variable])
    np.testing.assert_allclose(variable, [-0.5, -0.5])
    optimizer = keras_l2l.LearnedOptimizer(0.5, rule=rules.SGD(1.0))
    optimizer.learning_rate = 0.25
    optimizer.apply([tf.ones(2)], [variable])
    np.testing.assert_allclose(variable, [-0.75, -0.75])
    with pytest.raises(ValueError, match="learning_rate"):
        keras_l2l.LearnedOptimizer("fast")


def test_layers_frozen_and_unfrozen():
    model = classifier()
    hidden, logits = model.get_layer("hidden"), model.get_layer("logits")
    hidden.trainable = False
    before = hidden.get_weights()
    model.compile(keras_l2l.LearnedOptimizer(), LOSS)
    fit(model)
    assert_same(before, hidden.get_weights())
    # As with Adam, more variables need a new optimizer and fewer do not.
    hidden.trainable = True
    optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
    model.compile(optimizer, LOSS)
    fit(model)
    assert (hidden.get_weights()[0] != before[0]).all()
    hidden.trainable = False
    model.compile(optimizer, LOSS)
    before = hidden.get_weights(), state_of(optimizer)[: 6 * 8 + 8]
    head = logits.get_weights()
    fit(model)
    after = hidden.get_weights(), state_of(optimizer)[: 6 * 8 + 8]
    assert_same(before, after)
    assert (logits.get_weights()[0] != head[0]).all()


@pytest.mark.parametrize(
    "make", [keras_l2l.LearnedOptimizer, keras.optimizers.Adam]
)
def test_a_second_model_is_refused_as_by_adam(make):
    optimizer = make()
    optimizer.apply([tf.ones(3)], [keras.Variable(np.ones(3, "float32"))])
    other = keras.Variable(np.ones(3, "float32"))
    with pytest.raises(ValueError, match="nknown variable"):
        optimizer.apply([tf.ones(3)], [other])
    with pytest.raises(ValueError, match="No gradients provided"):
        make().apply([None], [other])


def test_memory_is_estimated_before_it_is_taken():
    model = classifier(rule=LSTM)
    optimizer = model.optimizer
    estimate = optimizer.estimate_memory(model)
    assert not optimizer.built
    # 2 layers of 20 units, cell and hidden state, 4 bytes each, and a byte
    # that tells whether there has been a gradient.
    assert estimate == model.count_params() * 321
    fit(model)
    held = [*optimizer._state, *optimizer._seen]
    taken = sum(v.numpy().nbytes for v in held)
    assert taken == estimate


@pytest.mark.parametrize(
    "model", [keras.Sequential([keras.layers.Dense(1)]), None]
)
def test_memory_of_an_unbuilt_model_is_unknown(model):
    with pytest.raises(ValueError, match="must be a built keras.Model"):
        keras_l2l.LearnedOptimizer().estimate_memory(model)


def test_a_trainable_bool_stays():
    class Layer(keras.layers.Layer):
        def build(self, input_shape):
            self.flag = self.add_weight(
                shape=(2,), dtype="bool", initializer="ones"
            )
            self.number = self.add_weight(
                shape=(2,), dtype="int32", initializer="ones"
            )

        def call(self, x):
            return keras.ops.where(self.flag[0], x, 0.0) + 0.0 * x

    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), Layer()]
    )
    model.compile(keras_l2l.LearnedOptimizer(), "mse")
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    np.testing.assert_array_equal(model.layers[1].flag, [True, True])
    np.testing.assert_array_equal(model.layers[1].number, [1, 1])
