import keras
import numpy as np
import pytest
from conftest import lstm_cell_in_numpy

from keras_l2l import rules


def step(rule, meta_params, gradient, state, iteration):
    inputs = rules.StepInputs([gradient], None, None, iteration)
    (update,), state = rule.step(meta_params, inputs, state)
    return np.asarray(update), state


def test_equals_an_independent_numpy_computation():
    rule = rules.RNNprop((4, 3), beta=0.8, output_scale=0.3)
    rng = np.random.default_rng(0)
    meta_params = keras.tree.map_structure(
        lambda t: rng.normal(size=t.shape), rule.init_meta_params(0)
    )
    state = keras.tree.map_structure(
        lambda t: np.asarray(t, "f8"), rule.init_state([(5,)])
    )
    gradients = rng.normal(size=(4, 5)) * 10.0 ** rng.integers(-3, 3, (4, 5))
    gradients[1, 2] = 0.0
    memory = [{0: [np.zeros(4)] * 2, 1: [np.zeros(3)] * 2} for _ in range(5)]
    for t in range(4):
        received, state = step(rule, meta_params, gradients[t], state, t)
        # Moments by their definition as weighted means of all gradients.
        weights = 0.8 ** np.arange(t, -1, -1.0)
        weights /= weights.sum()
        m, v = weights @ gradients[: t + 1], weights @ gradients[: t + 1] ** 2
        for n in range(5):
            x = np.array([m[n], gradients[t, n]]) / np.sqrt(v[n] + 1e-14)
            for layer in (0, 1):
                memory[n][layer] = lstm_cell_in_numpy(
                    x, *memory[n][layer], meta_params[f"lstm_{layer}"]
                )
                x = memory[n][layer][0]
            output = meta_params["output"]
            expected = 0.3 * np.tanh(x @ output["kernel"] + output["bias"])
            np.testing.assert_allclose(received[n], expected[0], rtol=1e-9)


def test_the_scale_of_the_loss_does_not_matter():
    rule = rules.RNNprop()
    meta_params = rule.init_meta_params(0)
    rng = np.random.default_rng(0)
    state = scaled_state = rule.init_state([(7,)])
    for t in range(5):
        gradient = rng.normal(size=7).astype("f4")
        update, state = step(rule, meta_params, gradient, state, t)
        scaled, scaled_state = step(
            rule, meta_params, 1024 * gradient, scaled_state, t
        )
        np.testing.assert_allclose(scaled, update, rtol=1e-4)
        assert np.abs(update).max() > 1e-4


def test_no_update_is_larger_than_the_output_scale():
    rule = rules.RNNprop(output_scale=0.25)
    meta_params = keras.tree.map_structure(
        lambda t: 100 * t, rule.init_meta_params(0)
    )
    gradient = np.random.default_rng(0).normal(size=50).astype("f4")
    update, _ = step(rule, meta_params, gradient, rule.init_state([(50,)]), 0)
    assert 0.24 < np.abs(update).max() <= 0.25


@pytest.mark.parametrize("beta", [1.0, -0.1, "0.9", None, float("nan"), True])
def test_bad_betas(beta):
    with pytest.raises(ValueError, match=r"`beta` must be .*\[0, 1\)"):
        rules.RNNprop(beta=beta)
