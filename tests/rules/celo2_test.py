import celo_data
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same
from conftest import to_float64
from rule_steps import random_step

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.presets import celo_weights
from keras_l2l.rules import cells
from keras_l2l.rules import moments

# So long that the rate stays at its peak.
CONSTANT = {"warmup": 0.0, "num_steps": 2**31 - 1}
variants = pytest.mark.parametrize("orthogonalize", [False, True])


class Recorded:
    """What the authors' implementation did, with the published weights."""

    arguments = {"peak_rate": 0.01, "matrix_decay": 0.05, **CONSTANT}

    def __init__(self, arrays, orthogonalize):
        self._arrays, self._variant = arrays, f"orth{int(orthogonalize)}"
        self.initial = self._tensors("init")

    def _tensors(self, name):
        return [self._arrays[f"{self._variant}/{name}/{i}"] for i in range(4)]

    def gradients(self, t):
        return self._tensors(f"grad/{t}")

    def check(self, t, params):
        """Asserts that parameters are those after step `t`."""
        expected = self._tensors(f"param/{t}")
        for a, b in zip(params, expected, strict=True):
            np.testing.assert_allclose(
                a, b, rtol=0, atol=1e-6 * np.abs(b).max()
            )


@pytest.fixture
def recorded(orthogonalize):
    if not celo_data.TRAJECTORIES_2.exists():
        pytest.skip(f"{celo_data.TRAJECTORIES_2} is not there")
    return Recorded(dict(np.load(celo_data.TRAJECTORIES_2)), orthogonalize)


def bound(rule, shapes, name="kernel"):
    return rule.for_variables(
        [keras.Variable(np.zeros(s), name=name) for s in shapes]
    )


@variants
def test_rule_follows_the_authors_implementation(
    orthogonalize, recorded, monkeypatch
):
    # Tensors are computed in another way where they are large; as they are,
    # below.
    monkeypatch.setattr(cells, "LARGE", 1)
    _, meta_params = celo_weights.read(celo_data.file("celo2"))
    params = recorded.initial
    shapes = [p.shape for p in params]
    rule = bound(rules.Celo2(orthogonalize, **recorded.arguments), shapes)
    state = rule.init_state(shapes)
    for t in range(20):
        inputs = rules.StepInputs(recorded.gradients(t), params, None, t)
        updates, state = rule.step(meta_params, inputs, state)
        params = [
            p + np.asarray(u) for p, u in zip(params, updates, strict=True)
        ]
        recorded.check(t, params)


@variants
def test_optimizer_follows_the_authors_implementation(
    orthogonalize, recorded, tmp_path
):
    presets.convert_celo(celo_data.file("celo2"), tmp_path / "preset")
    optimizer = keras_l2l.LearnedOptimizer.from_preset(
        tmp_path / "preset", orthogonalize=orthogonalize, **recorded.arguments
    )
    variables = [keras.Variable(value) for value in recorded.initial]
    for t in range(20):
        optimizer.apply(recorded.gradients(t), variables)
        recorded.check(t, [v.numpy() for v in variables])


@pytest.mark.parametrize("large", [1, cells.LARGE])
def test_each_matrix_of_a_tensor_has_features_of_its_own(large, monkeypatch):
    monkeypatch.setattr(cells, "LARGE", large)
    rng = np.random.default_rng(0)
    # The second block is the same along the rows.
    blocks = [rng.normal(size=s) for s in ((3, 2, 5, 4), (27, 2, 1, 4))]
    meta_params = to_float64(moments.init_network(0, outputs=1))
    (received,) = moments.network(meta_params, blocks, axes=2)
    for i in range(2):
        (expected,) = moments.network(meta_params, [b[:, i] for b in blocks])
        np.testing.assert_allclose(received[i], expected, rtol=1e-12)
    (other,) = moments.network(meta_params, blocks)
    assert np.abs(other - received).max() > 1e-3


def test_directions_have_a_size_of_1():
    shapes = [(2, 7, 3), (5, 40)]
    rule = rules.Celo2(False, peak_rate=1.0, **CONSTANT)
    step = random_step(rule, shapes)
    base, _ = step[0].step(*step[1:])
    rule = rules.Celo2(True, peak_rate=1.0, **CONSTANT).for_variables(
        [keras.Variable(np.zeros(shape)) for shape in shapes]
    )
    orthogonal, _ = rule.step(*step[1:])
    for updates in (base, orthogonal):
        for update in updates:
            size = np.sqrt(np.mean(np.square(update), axis=(-2, -1)))
            np.testing.assert_allclose(size, 1, rtol=1e-4)
    for before, after in zip(base, orthogonal, strict=True):
        ratios = []
        for update in (before, after):
            values = np.linalg.svd(update, compute_uv=False)
            ratios.append((values[..., 0] / values[..., -1]).max())
        assert ratios[1] < 2 < ratios[0]


def test_embeddings_and_vectors_are_updated_by_adam():
    layer = keras.layers.Embedding(6, 3)
    dense = keras.layers.Dense(4, name="patch_embedding")
    layer.build()
    dense.build((3,))
    own = keras.Variable(np.ones((2, 2)), name="position_embedding")
    variables = [*layer.variables, own, *dense.variables]
    shapes = [v.shape for v in variables]
    rule = rules.Celo2(matrix_decay=0.1, **CONSTANT).for_variables(variables)
    members = {name: indices for name, _, indices in rule.bound_members()}
    assert members == {"embeddings": [0, 1], "vectors": [3], "matrices": [2]}
    state, rng = rule.init_state(shapes), np.random.default_rng(0)
    adam = keras.optimizers.Adam(0.02, 0.9, 0.95, 1e-12)
    expected = [keras.Variable(v) for v in variables]
    for t in range(5):
        gradients = [tf.constant(rng.normal(size=s), "float32") for s in shapes]
        inputs = rules.StepInputs(
            gradients, [v.value for v in variables], None, t
        )
        updates, state = rule.step(rule.init_meta_params(0), inputs, state)
        for variable, update in zip(variables, updates, strict=True):
            variable.assign_add(update)
        adam.apply(gradients, expected)
    for i in (0, 1, 3):
        np.testing.assert_allclose(variables[i], expected[i], rtol=1e-4)
    assert np.abs(variables[2] - expected[2]).max() > 1e-3


def test_what_is_masked_keeps_its_state():
    shapes = [(2, 3), (3, 2)]
    mask = [tf.constant([[True, False, True]] * 2), tf.constant(False)]
    rule = rules.Celo2(num_steps=9)
    rule, meta_params, inputs, state = random_step(rule, shapes)
    _, state = rule.step(meta_params, inputs, state)
    inputs = inputs._replace(mask=mask)
    updates, after = rule.step(meta_params, inputs, state)
    assert [np.count_nonzero(update) for update in updates] == [4, 0]
    first, second = after["matrices"]
    for name in ("m", "r"):
        same = (first[name] == state["matrices"][0][name]).numpy()
        assert (same == ~mask[0].numpy()).all()
    assert_same(second, state["matrices"][1])


def sizes(rule, steps):
    """Returns the sizes of the updates of a bias, in all steps."""
    rule, one = bound(rule, [()]), [tf.ones(())]
    state, found = rule.init_state([()]), []
    for t in range(steps):
        (update,), state = rule.step(
            rule.init_meta_params(0), rules.StepInputs(one, one, None, t), state
        )
        found.append(-float(update))
    return found


def test_the_rate_rises_and_decays_to_0():
    found = sizes(rules.Celo2(warmup=0.2, num_steps=10), 12)
    cosine = (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    expected = 0.02 * np.array([0.5, 1, *cosine, 0, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        sizes(rules.Celo2(num_steps=1, peak_rate=0.1), 1), [2.0], rtol=1e-5
    )


def test_the_length_is_told_once():
    shapes = [(2, 3), (3,)]
    rule = bound(rules.Celo2(), shapes)
    ones = [tf.ones(shape) for shape in shapes]
    with pytest.raises(ValueError, match="num_steps=None.*TrainingLength"):
        rule.step(
            rule.init_meta_params(0),
            rules.StepInputs(ones, ones, None, 0),
            rule.init_state(shapes),
        )
    told = rule.for_num_steps(9)
    assert (rule.num_steps, told.num_steps) == (None, 9)
    assert told.for_num_steps(10).num_steps == 9
    assert told.bound_members()[1][1].num_steps == 9
    assert rules.deserialize(rules.serialize(told)).num_steps == 9


@pytest.mark.parametrize(
    "arguments",
    [
        {"orthogonalize": 1},
        {"peak_rate": -1.0},
        {"matrix_decay": "0"},
        {"warmup": 1.0},
        {"num_steps": 0},
    ],
)
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        rules.Celo2(**arguments)


def test_a_matrix_without_direction_has_a_derivative():
    rule = bound(rules.Celo2(**CONSTANT), [(2, 3)])
    meta_params = rule.init_meta_params(0)
    kernel = meta_params["matrices"]["output"]["kernel"]
    meta_params["matrices"]["output"]["kernel"] = tf.zeros_like(kernel)
    leaves = tf.nest.flatten(meta_params)
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        inputs = rules.StepInputs([tf.ones((2, 3))], [tf.ones((2, 3))], None, 0)
        (update,), _ = rule.step(meta_params, inputs, rule.init_state([(2, 3)]))
    np.testing.assert_array_equal(update, np.zeros((2, 3)))
    for gradient in tape.gradient(update, leaves):
        assert np.isfinite(gradient).all()
