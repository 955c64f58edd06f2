"""Without TensorFlow, for backends_test."""

import logging

import keras
import numpy as np
import pytest
from keras import ops

import keras_l2l
from keras_l2l import rules


def optimizer(**arguments):
    return keras_l2l.LearnedOptimizer(rule=rules.SGD(0.5), **arguments)


def compiled(optimizer, **arguments):
    """Returns a model of 5 batches, of which the second and third spoil it."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, use_bias=False)]
    )
    model.compile(optimizer, "mse", **arguments)
    x, y = np.ones((10, 3), "float32"), np.ones((10, 1), "float32")
    # Of one coordinate, and of all.
    y[2], y[5] = np.nan, np.inf
    return model, x, y


@pytest.fixture
def fit(caplog):
    """Returns a function that trains and returns what is said."""

    def fit(model, x, y):
        caplog.clear()
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        # TensorFlow may have something to say, too.
        ours = [r for r in caplog.records if r.name == "keras_l2l"]
        return [record.getMessage() for record in ours]

    with caplog.at_level(logging.WARNING, "keras_l2l"):
        yield fit


@pytest.mark.parametrize(
    "arguments", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str
)
def test_the_end_of_fit_says_what_was_skipped(arguments, fit):
    if arguments and keras.backend.backend() != "tensorflow":
        pytest.skip("it compiles by other means")
    model, x, y = compiled(optimizer(), **arguments)
    (remark,) = fit(model, x, y)
    assert "gradients that are NaN or infinite, so far: 2. " in remark
    assert np.isfinite(model.get_weights()[0]).all()
    # Once, and again only when there are more.
    x, y = x[6:], y[6:]
    assert fit(model, x, y) == []
    y[0] = np.nan
    (remark,) = fit(model, x, y)
    assert "so far: 3. " in remark


def test_nothing_is_said_where_nothing_is_skipped(fit):
    model, x, y = compiled(optimizer())
    assert fit(model, x[6:], y[6:]) == []


@pytest.mark.parametrize(
    "arguments, moved, said",
    [
        ({}, [True, False, True], "Coordinates of such a gradient"),
        ({"clipnorm": 1.0}, [False, False, True], "With clipnorm, all others"),
        (
            {"global_clipnorm": 1.0},
            [False] * 3,
            "With global_clipnorm, all",
        ),
        ({"clipvalue": 1.0}, [True, False, True], "of such a gradient"),
    ],
    ids=str,
)
def test_what_stays_as_it_is(arguments, moved, said):
    learned = optimizer(**arguments)
    variables = [
        keras.Variable(np.zeros(n), dtype="float32", name=f"v{n}")
        for n in (2, 1)
    ]
    gradients = [ops.convert_to_tensor(g) for g in ([1.0, np.nan], [1.0])]
    learned.apply(gradients, variables)
    values = np.concatenate([ops.convert_to_numpy(v) for v in variables])
    assert (values != 0).tolist() == moved
    (remark,) = learned.remarks()
    assert "so far: 1. " in remark and said in remark


def test_with_accumulation_updates_are_counted():
    learned = optimizer(gradient_accumulation_steps=2)
    variable = keras.Variable(np.zeros(1), dtype="float32")
    for gradient in (np.nan, 1.0, 1.0, 1.0):
        gradient = ops.convert_to_tensor(np.array([gradient], "float32"))
        learned.apply([gradient], [variable])
    (remark,) = learned.remarks()
    assert "so far: 1. " in remark


@pytest.mark.parametrize("built", [False, True])
def test_files_with_and_without_the_counter(built):
    variable, store = keras.Variable(np.zeros(2, "float32")), {}
    original = optimizer()
    gradient = ops.convert_to_tensor(np.array([1.0, np.nan], "float32"))
    original.apply([gradient], [variable])
    original.save_own_variables(store)
    for counted in (1, 0):
        other = optimizer()
        if built:
            other.build([variable])
        other.load_own_variables(store)
        other.build([variable])
        assert len(other.remarks()) == counted
        assert int(ops.convert_to_numpy(other.iterations)) == 1
        # As earlier versions saved it.
        store.pop(max(filter(str.isdigit, store), key=int))
