import keras
import numpy as np
import pytest
from conftest import leaves
from conftest import log_and_sign_in_numpy
from conftest import lstm_cell_in_numpy

from keras_l2l import rules


def lstm_in_numpy(meta_params, features, state, layers):
    """The rule's step from its definition, one coordinate at a time."""
    outputs = []
    for n in range(len(features)):
        x = features[n]
        for layer in layers:
            memory = state[layer]
            x, memory["cell"][n] = lstm_cell_in_numpy(
                x, memory["hidden"][n], memory["cell"][n], meta_params[layer]
            )
            memory["hidden"][n] = x
        output = meta_params["output"]
        outputs.append((x @ output["kernel"] + output["bias"]).item())
    return np.array(outputs)


@pytest.mark.parametrize(
    "preprocessing, p, output_scale",
    [
        ("log_and_sign", 10.0, 0.1),
        # Those of the authors' code.
        ("log_and_sign", 5.0, 0.01),
        (None, 5.0, 1.0),
    ],
)
def test_equals_an_independent_numpy_computation(
    preprocessing, p, output_scale
):
    rule = rules.CoordinatewiseLSTM((4, 3), preprocessing, p, output_scale)
    rng = np.random.default_rng(0)
    meta_params = keras.tree.map_structure(
        lambda t: rng.normal(size=t.shape), rule.init_meta_params(0)
    )
    state = keras.tree.map_structure(
        lambda t: np.asarray(t, "f8"), rule.init_state([(2,), (1, 3)])
    )
    # One row per coordinate here.
    expected_state = keras.tree.map_structure(lambda t: np.array(t.T), state)
    for step in range(3):
        gradient = rng.normal(size=5) * 10.0 ** rng.integers(-6, 2, size=5)
        updates, state = rule.step(
            meta_params,
            rules.StepInputs(
                [gradient[:2], gradient[2:].reshape(1, 3)], None, None, step
            ),
            state,
        )
        if preprocessing is None:
            features = gradient[:, None]
        else:
            features = log_and_sign_in_numpy(gradient, p)
        expected = output_scale * lstm_in_numpy(
            meta_params, features, expected_state, ["lstm_0", "lstm_1"]
        )
        received = np.concatenate([np.ravel(u) for u in updates])
        np.testing.assert_allclose(received, expected, rtol=1e-12)
        for a, b in zip(leaves(state), leaves(expected_state), strict=True):
            np.testing.assert_allclose(a, b.T, rtol=1e-12)


def test_zero_output_weights_give_zero_updates():
    rule = rules.CoordinatewiseLSTM()
    meta_params = rule.init_meta_params(0)
    meta_params["output"] = keras.tree.map_structure(
        lambda t: t * 0, meta_params["output"]
    )
    inputs = rules.StepInputs([np.ones((2, 3), "f4")], None, None, 0)
    updates, _ = rule.step(meta_params, inputs, rule.init_state([(2, 3)]))
    np.testing.assert_array_equal(updates[0], np.zeros((2, 3)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"units": 20}, "pass units"),
        ({"units": ()}, "non-empty"),
        ({"units": (20, 0)}, "an int from 1 to"),
        ({"units": (20.0,)}, "an int from 1 to"),
        ({"preprocessing": "log"}, "log_and_sign"),
        ({"p": 0}, "`p` must be a positive finite number"),
        ({"output_scale": -1.0}, "`output_scale` must be a positive"),
        ({"output_scale": "x"}, "`output_scale` must be a positive"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        rules.CoordinatewiseLSTM(**arguments)
