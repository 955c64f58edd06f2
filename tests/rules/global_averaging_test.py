"""The two rules that mix coordinates: of averages, and of a matrix."""

import keras
import numpy as np
import pytest
from conftest import log_and_sign_in_numpy
from conftest import lstm_cell_in_numpy

from keras_l2l import rules
from keras_l2l.optimizer.execution import execution_of

LAYERS = {"lstm_0": 4, "lstm_1": 3}


def random_start(rule, n):
    rng = np.random.default_rng(0)
    meta_params = keras.tree.map_structure(
        lambda t: rng.normal(size=t.shape), rule.init_meta_params(0)
    )
    state = keras.tree.map_structure(
        lambda t: np.asarray(t, "f8"), rule.init_state([(n,)])
    )
    gradients = rng.normal(size=(4, n)) * 10.0 ** rng.integers(
        -4, 2, size=(4, n)
    )
    return meta_params, state, gradients


def stack_in_numpy(meta_params, features, memory, averaged, present):
    """Moves `memory[n][layer] = [hidden, cell]` on; returns outputs `[n, m]`.

    Only the coordinates of `present` take part.
    """
    x = {n: features[n] for n in present}
    for layer in LAYERS:
        for n in present:
            memory[n][layer] = list(
                lstm_cell_in_numpy(x[n], *memory[n][layer], meta_params[layer])
            )
        mean = np.mean(
            [memory[n][layer][0][:averaged] for n in present], axis=0
        )
        for n in present:
            memory[n][layer][0][:averaged] = mean
            x[n] = memory[n][layer][0]
    output = meta_params["output"]
    outputs = np.zeros((len(features), len(output["bias"])))
    for n in present:
        outputs[n] = x[n] @ output["kernel"] + output["bias"]
    return outputs


def fresh_memory(n):
    return [
        {name: [np.zeros(u), np.zeros(u)] for name, u in LAYERS.items()}
        for _ in range(n)
    ]


# At the third step, the second of four coordinates is not updated.
MASKS = [None, None, np.array([True, False, True, True]), None]


def test_global_averaging_equals_an_independent_numpy_computation():
    rule = rules.GlobalAveragingLSTM(2, (4, 3), p=5.0, output_scale=0.3)
    meta_params, state, gradients = random_start(rule, 4)
    memory = fresh_memory(4)
    for gradient, mask in zip(gradients, MASKS, strict=True):
        present = range(4) if mask is None else np.flatnonzero(mask)
        inputs = rules.StepInputs(
            [gradient], None, None, 0, None if mask is None else [mask]
        )
        updates, state = rule.step(meta_params, inputs, state)
        expected = stack_in_numpy(
            meta_params,
            log_and_sign_in_numpy(gradient, 5),
            memory,
            2,
            present,
        )
        np.testing.assert_allclose(
            updates[0], 0.3 * expected[:, 0], rtol=1e-10, atol=1e-15
        )


def test_ntm_bfgs_equals_an_independent_numpy_computation():
    rule = rules.NTMBFGS(2, 2, (4, 3), p=5.0, output_scale=0.3)
    meta_params, state, gradients = random_start(rule, 4)
    memory, read, matrix = fresh_memory(4), np.zeros(4), np.eye(4)
    for gradient, mask in zip(gradients, MASKS, strict=True):
        present = range(4) if mask is None else np.flatnonzero(mask)
        inputs = rules.StepInputs(
            [gradient], None, None, 0, None if mask is None else [mask]
        )
        updates, state = rule.step(meta_params, inputs, state)
        features = np.column_stack([log_and_sign_in_numpy(gradient, 5), read])
        outputs = stack_in_numpy(meta_params, features, memory, 2, present)
        # Columns: query, left of each head, right of each head.
        new_read = matrix @ outputs[:, 0]
        for head in (1, 2):
            matrix = (
                matrix + np.outer(outputs[:, head], outputs[:, head + 2]) / 4
            )
        expected = np.zeros(4)
        for n in present:
            read[n] = new_read[n]
            expected[n] = 0.3 * new_read[n]
        np.testing.assert_allclose(updates[0], expected, rtol=1e-10)
        np.testing.assert_allclose(state["memory"], matrix, rtol=1e-10)


def test_a_large_memory_is_described_without_being_there():
    # Of 160 GB.
    run = execution_of(rules.NTMBFGS(), None)
    spec = run.state_spec([(100_000,), (100_000,)])
    assert spec["memory"].shape == (200_000, 200_000)


def test_coordinates_hear_of_each_other():
    for rule in (rules.GlobalAveragingLSTM(), rules.NTMBFGS()):
        meta_params = rule.init_meta_params(0)
        updates = [
            rule.step(
                meta_params,
                rules.StepInputs([np.array([1.0, other], "f4")], None, None, 0),
                rule.init_state([(2,)]),
            )[0][0][0]
            for other in (1.0, -1.0)
        ]
        assert abs(updates[0] - updates[1]) > 1e-4


@pytest.mark.parametrize(
    "rule, arguments, message",
    [
        ("GlobalAveragingLSTM", {"averaged": 21}, "`averaged` must be.*to 20"),
        ("GlobalAveragingLSTM", {"units": (9, 4)}, "`averaged` must be.*to 4"),
        ("GlobalAveragingLSTM", {"averaged": 0}, "`averaged` must be"),
        ("NTMBFGS", {"write_heads": 0}, "`write_heads` must be an int"),
    ],
)
def test_bad_arguments(rule, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(rules, rule)(**arguments)
