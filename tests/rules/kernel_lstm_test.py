import keras
import numpy as np
import pytest
from conftest import leaves
from conftest import log_and_sign_in_numpy
from conftest import lstm_cell_in_numpy

import keras_l2l
from keras_l2l import rules

SHAPES = [(3, 2, 2, 2), (3, 2, 1, 3)]


def random_start(rule, shapes):
    rng = np.random.default_rng(0)
    meta_params = keras.tree.map_structure(
        lambda t: rng.normal(size=t.shape), rule.init_meta_params(0)
    )
    state = keras.tree.map_structure(
        lambda t: np.asarray(t, "f8"), rule.init_state(shapes)
    )
    return rng, meta_params, state


@pytest.mark.parametrize("preprocessing", ["log_and_sign", None])
def test_equals_an_independent_numpy_computation(preprocessing):
    rule = rules.KernelLSTM((3, 2), (4, 3), preprocessing, 5.0, 0.3)
    rng, meta_params, state = random_start(rule, SHAPES)
    layers = {"lstm_0": 4, "lstm_1": 3}
    # Filter by filter: (tensor, input channel, output channel).
    memory = {
        (t, i, o): {name: np.zeros((2, n)) for name, n in layers.items()}
        for t, shape in enumerate(SHAPES)
        for i in range(shape[2])
        for o in range(shape[3])
    }
    for step in range(3):
        gradients = [
            rng.normal(size=s) * 10.0 ** rng.integers(-4, 2, size=s)
            for s in SHAPES
        ]
        updates, state = rule.step(
            meta_params, rules.StepInputs(gradients, None, None, step), state
        )
        for (t, i, o), mine in memory.items():
            x = gradients[t][:, :, i, o].ravel()
            if preprocessing is not None:
                # All magnitudes, then all signs.
                x = log_and_sign_in_numpy(x, 5).T.ravel()
            for name in layers:
                mine[name][:] = lstm_cell_in_numpy(
                    x, *mine[name], meta_params[name]
                )
                x = mine[name][0]
            output = meta_params["output"]
            expected = 0.3 * (x @ output["kernel"] + output["bias"])
            np.testing.assert_allclose(
                np.ravel(updates[t][:, :, i, o]), expected, rtol=1e-10
            )


def test_of_single_numbers_it_is_the_coordinatewise_rule():
    kernel, single = rules.KernelLSTM(()), rules.CoordinatewiseLSTM()
    shapes = [(), (2, 3)]
    inputs = rules.StepInputs(
        [np.float32(2.0), np.ones((2, 3), "f4")], None, None, 0
    )
    found = [
        rule.step(rule.init_meta_params(1), inputs, rule.init_state(shapes))
        for rule in (kernel, single)
    ]
    for a, b in zip(*map(leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_filter_stays_where_it_is_masked():
    rule = rules.KernelLSTM((2,), (4,))
    rng, meta_params, state = random_start(rule, [(2, 3)])
    gradient = rng.normal(size=(2, 3))
    inputs = rules.StepInputs([gradient], None, None, 0)
    _, state = rule.step(meta_params, inputs, state)
    mask = np.array([[True, False, True], [True, False, False]])
    updates, new_state = rule.step(
        meta_params, inputs._replace(mask=[mask]), state
    )
    np.testing.assert_array_equal(np.asarray(updates[0]) != 0, mask)
    # The memory of a filter goes on if any of its numbers does.
    for new, old in zip(leaves(new_state), leaves(state), strict=True):
        assert (new != old).any(axis=0).tolist() == [True, False, True]


def test_trains_the_convolutions_of_a_model():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    rule = rules.Partition(
        [("conv.*kernel", rules.KernelLSTM((3, 3)))], rules.Adam(0.01)
    )
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), "mse")
    before = model.get_weights()
    model.fit(np.ones((8, 6, 6, 2)), np.ones((8, 1)), verbose=0)
    for new, old in zip(model.get_weights(), before, strict=True):
        assert (new != old).any()
    # One column of state for each of 2 x 4 filters.
    shapes = {tuple(v.shape) for v in model.optimizer._state}
    assert (20, 8) in shapes


def test_other_shapes_are_refused():
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.KernelLSTM((3, 3)))
    with pytest.raises(ValueError, match=r"begin with.*\(3, 3\).*\(5, 3, 1\)"):
        optimizer.build([keras.Variable(np.ones((5, 3, 1)))])


@pytest.mark.parametrize("kernel_shape", [3, (3, 0), (2.5,), "33"])
def test_bad_arguments(kernel_shape):
    with pytest.raises(ValueError, match="`kernel_shape` must be"):
        rules.KernelLSTM(kernel_shape)
