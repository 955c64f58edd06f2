"""Tools that several tests need."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Most tests compile a model for a few steps: the compiler takes the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# The garbage collector would take a tenth of the time of imports and traces.
gc.set_threshold(20_000, 20, 20)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_l2l  # noqa: E402
from keras_l2l import rules  # noqa: E402
from keras_l2l import tasks  # noqa: E402

# What is imported stays.
gc.freeze()


def _optimize_graphs(does):
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": not does}
    )


# Nor need TensorFlow optimize the graphs. In other processes it does.
_optimize_graphs(False)


@pytest.fixture(scope="module")
def optimized_graphs():
    """For tests that compare with results of other processes."""
    _optimize_graphs(True)
    yield
    _optimize_graphs(False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    result = yield
    if nextitem is None or nextitem.path != item.path:
        # What is left stays, such as graphs of TensorFlow. To look through it
        # again and again would take a twentieth of the time.
        gc.collect()
        gc.freeze()
    return result


# Two CPUs for tests of distribution; nothing else notices.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)

# The preset of a rule that is the same for every coordinate, each with 80
# floats of state: what tests say of states holds for it, whatever the default.
LSTM = "l2l_fashion_mnist_mlp"


def slow_but(quick, names):
    """Returns parameters of which all but some make a test slow."""
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


# Modules of tests that take half a minute.
_LONG = ("backends_test", "examples_test", "replicas_training_test")


def pytest_collection_modifyitems(items):
    # First: no process should wait for one of them at the end.
    items.sort(key=lambda item: item.path.stem not in _LONG)
    for item in items:
        # The names must be the same in every process of pytest-xdist.
        assert " at 0x" not in item.nodeid, item.nodeid


def to_float64(nest):
    """Returns a nest with its float tensors in float64."""
    return tf.nest.map_structure(
        lambda t: tf.cast(t, tf.float64) if t.dtype.is_floating else t, nest
    )


def leaves(nest):
    return [
        np.asarray(tf.convert_to_tensor(leaf))
        for leaf in keras.tree.flatten(nest)
    ]


def assert_same(received, expected):
    """Asserts that the leaves of two nests are equal, whatever their types."""
    for a, b in zip(leaves(received), leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(received, expected, **tolerance):
    """Asserts that the leaves of two nests differ by no more than that."""
    for a, b in zip(leaves(received), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def lstm_cell_in_numpy(x, hidden, cell, weights):
    """Returns the new hidden and cell of one LSTM, from its definition."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    gates = (
        x @ weights["kernel"]
        + hidden @ weights["recurrent_kernel"]
        + weights["bias"]
    )
    i, f, c, o = np.split(gates, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
    return sigmoid(o) * np.tanh(cell), cell


def log_and_sign_in_numpy(gradient, p):
    """Returns `[n, 2]` features of `[n]` gradients, from their definition."""
    ones = np.ones_like(gradient)
    return np.where(
        np.abs(gradient)[:, None] >= np.exp(-p),
        np.stack([np.log(np.abs(gradient)) / p, np.sign(gradient)], 1),
        np.stack([-ones, np.exp(p) * gradient], 1),
    )


class _InTwoTensors(tasks.Quadratic):
    """A quadratic whose parameters are two tensors."""

    def init_params(self, seed):
        (x,) = super().init_params(seed)
        return [x[:2], x[2:]]

    def loss(self, params, batch):
        return super().loss([tf.concat(params, 0)], batch)


def float64_quadratic(seed=0, n=4):
    """Returns a well-conditioned quadratic task in float64."""
    rng = np.random.default_rng(seed)
    return _InTwoTensors(
        tf.constant(rng.normal(size=(n, n)) / n + np.eye(n)),
        tf.constant(rng.normal(size=n)),
    )


@keras.saving.register_keras_serializable(package="tests")
class Uphill(rules.CoordinatewiseRule):
    """Its meta-parameter is the update: any change from 0 is for the worse."""

    def init_meta_params(self, seed):
        return {"shift": tf.zeros([])}

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        # The sign is wrong on purpose: meta-training goes uphill.
        shift = meta_params["shift"]
        return 2 * tf.stop_gradient(shift) - shift + 0 * gradient, state


def dense_model(*units, inputs=3, activation=None):
    """Returns a model of dense layers, the last of which is linear."""
    *hidden, last = units
    inner = [keras.layers.Dense(n, activation=activation) for n in hidden]
    return keras.Sequential(
        [keras.Input((inputs,)), *inner, keras.layers.Dense(last)]
    )


def regression_task(name="regression", make_model=None):
    """Returns a small Keras regression as a task."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3)).astype("float32")
    return tasks.KerasModelTask(
        make_model or (lambda: dense_model(4, 1, activation="tanh")),
        "mse",
        (x, x.sum(axis=1, keepdims=True) ** 2),
        batch_size=16,
        name=name,
    )


@pytest.fixture
def small_lstm():
    """A rule whose single step is cheap."""
    return keras_l2l.CoordinatewiseLSTM(units=(4, 3))


def uncompiled(rule):
    """Returns a rule that XLA does not compile: runs start in half the time."""
    if isinstance(rule, rules.WrapperRule):
        for inner in rule.inner_rules().values():
            uncompiled(inner)
    else:
        rule.jit_compile = False
    return rule


@pytest.fixture(scope="session")
def strategy():
    """Two replicas."""
    # One strategy for all tests: TensorFlow 2.16 mixes up the messages of
    # several in one process, if their dtypes differ.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
