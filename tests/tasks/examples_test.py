import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves

from keras_l2l import tasks

X = np.arange(300.0).reshape(100, 3) / 100
Y = X.sum(axis=1, keepdims=True)
W = np.arange(100.0)
slices = tf.data.Dataset.from_tensor_slices


class Batches(keras.utils.PyDataset):
    num_batches = 7

    def __init__(self, *arrays):
        super().__init__()
        self._arrays = arrays

    def __getitem__(self, i):
        return tuple(np.array_split(a, 7)[i] for a in self._arrays)


class Endless(Batches):
    num_batches = None


class Subclass(keras.Model):
    """A model that does not know its inputs."""

    def __init__(self):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(1)

    def build(self, shape):
        self.dense.build((None, 3))

    def call(self, x):
        return self.dense(self.flatten(x))


def linear():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def subclass():
    model = Subclass()
    model.build((None, 3))
    return model


@pytest.mark.parametrize("weights", [(), (W,)])
@pytest.mark.parametrize(
    "form",
    [
        list,
        lambda data: slices(data),
        lambda data: slices(data).batch(32),
        lambda data: slices(data).batch(30, drop_remainder=True).take(9),
        lambda data: slices(data).batch(1),
        lambda data: Batches(*data),
        lambda data: tf.data.Dataset.from_generator(
            lambda: zip(*data, strict=True),
            output_types=("float64",) * len(data),
        ),
    ],
    ids=[
        "list",
        "examples",
        "batches",
        "whole batches",
        "batches of one",
        "PyDataset",
        "generator",
    ],
)
def test_all_forms_of_data_are_the_same_task(form, weights, request):
    data = (X, Y, *weights)
    expected = data
    if "whole" in request.node.name:
        expected = tuple(part[:90] for part in data)
    found, expected = (
        tasks.KerasModelTask(linear, "mse", one)
        for one in (form(data), expected)
    )
    assert found.get_config()["sha256"] == expected.get_config()["sha256"]
    for a, b in zip(
        leaves(found.batches("test", 3)(tf.constant(1))),
        leaves(expected.batches("test", 3)(tf.constant(1))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_no_weights_are_none():
    found = tasks.KerasModelTask(linear, "mse", (X, Y, None))
    assert len(found.batches("test", 3)(tf.constant(1))) == 2


def test_batches_of_images_are_told_from_examples():
    images = np.zeros((20, 8, 8, 1))
    task = tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        ),
        "mse",
        slices((images, np.ones((20, 1)))).batch(4),
    )
    assert task.get_config()["examples"]["train"] == 12


def test_batches_in_a_dict_of_splits():
    task = tasks.KerasModelTask(
        linear,
        "mse",
        {split: slices((X, Y)).batch(32) for split in tasks.SPLITS},
    )
    assert task.get_config()["examples"] == dict.fromkeys(tasks.SPLITS, 100)


def unknown_inputs():
    model = subclass()
    model.get_build_config = lambda: None
    return model


@pytest.mark.parametrize("size", [32, 9])
def test_batches_for_a_model_that_does_not_know_its_inputs(size):
    tasks.KerasModelTask(unknown_inputs, "mse", slices((X, Y)))
    stream = slices((X, Y)).batch(size)
    with pytest.raises(ValueError, match=r"pass data\.unbatch\(\)"):
        tasks.KerasModelTask(unknown_inputs, "mse", stream)
    tasks.KerasModelTask(unknown_inputs, "mse", stream.unbatch())
    # A subclass knows those that it has been called on.
    tasks.KerasModelTask(subclass, "mse", stream)


LARGE = [[float(i)] for i in range(20_000)]


class Wide:
    """Like much that users pass, it says all that it is."""

    def __repr__(self):
        return "wide " * 20_000


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"data": slices(X)}, "must be a pair"),
        ({"data": slices((X, Y, W, W))}, "must be a pair"),
        ({"data": Endless(X, Y)}, "must be a finite keras.utils.PyDataset"),
        ({"data": X.tolist()}, "must be a pair"),
        ({"data": (LARGE, LARGE)}, "leading axis"),
        ({"data": ([X, Y, *LARGE], Y)}, "must be arrays"),
        ({"data": (Wide(), Y)}, "must be arrays"),
        ({"data": (np.array([Wide()] * 100), Y)}, "must be arrays"),
        ({"data": ({"a": X, "b": 1.0}, Y)}, "leading axis"),
        ({"data": dict.fromkeys(map(str, range(9999)), X)}, "must have the k"),
        ({"data": Wide()}, "must be a pair"),
        ({"data": (np.zeros((100, 50_000)), Y)}, "must accept a batch"),
        ({"data": ([X] * 2000, Y)}, "must accept a batch"),
        ({"data": (X, Y, np.zeros((100, 7, 7, 7)))}, "must accept a batch"),
        ({"data": (X * np.nan, Y)}, "Look for NaN"),
        ({"make_model": Wide()}, "must be a function"),
        ({"make_model": Wide}, "must return a built"),
        ({"make_model": LARGE}, "must be a function"),
        ({"loss": Wide()}, "`loss` must be"),
        ({"loss": "wrong" * 9999}, "`loss` must be"),
        ({"loss": LARGE}, "`loss` must be"),
        ({"batch_size": Wide()}, "`batch_size` must be"),
        ({"batch_size": X}, "`batch_size` must be"),
    ],
)
def test_messages_are_short(changed, message):
    arguments = {"make_model": linear, "loss": "mse", "data": (X, Y)}
    with pytest.raises(ValueError, match=message) as raised:
        tasks.KerasModelTask(**{**arguments, **changed})
    assert len(str(raised.value)) <= 500
