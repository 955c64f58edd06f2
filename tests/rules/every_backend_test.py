"""What holds on TensorFlow, JAX and PyTorch alike.

Runs on the backend that Keras runs on: `backends_test.py` runs it on the
others, without conftest.py, which needs TensorFlow.
"""

import ast
import pathlib

import keras
import numpy as np
import pytest
from keras import ops
from rule_reflection import every_rule
from rule_reflection import make

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.rules import gradients as gradients_lib
from keras_l2l.utils import backends
from keras_l2l.utils import nests

RNG = np.random.default_rng(0)
SHAPES = [(), (3,), (2, 3), (3, 3, 2, 4)]
# A gradient of which some coordinates never have one.
SPARSE = [[0.0, 1.0, -2.0], [0.0, 0.0, 3.0]]
TOKENS = RNG.integers(0, 5, size=(16, 3))
FEATURES = np.concatenate([np.zeros((16, 2)), RNG.normal(size=(16, 4))], 1)
LABELS = RNG.integers(0, 3, size=16)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# What is loaded there, the same code of Keras loads elsewhere.
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of TensorFlow alone"
)


def tensors(shapes):
    return [
        ops.convert_to_tensor(RNG.normal(size=s), "float32") for s in shapes
    ]


def arrays(nest):
    """Returns copies of what a nest of tensors holds."""
    return [
        np.array(ops.convert_to_numpy(leaf))
        for _, leaf in nests.named_leaves(nest)
        if leaf is not None
    ]


def assert_pure(rule, meta_params):
    """Takes steps, and compares what was passed in with itself before."""
    rule = rule.for_num_steps(20).for_variables(
        [
            keras.Variable(np.zeros(shape), name=f"param_{i}")
            for i, shape in enumerate(SHAPES)
        ]
    )
    state, step, steps = rule.init_state(SHAPES), rule.step, 3
    if keras.backend.backend() == "jax":
        import jax

        # Nothing can change an array there, so that one step says it all; and
        # compiled it is done sooner.
        step, steps = jax.jit(step), 1
    gradients = tensors(SHAPES)
    gradients[2] = ops.convert_to_tensor(SPARSE)
    for iteration in range(steps):
        found = gradients_lib.received(
            gradients, SHAPES, gradients_lib.init_seen(rule, SHAPES)
        )
        passed = (
            meta_params,
            found.gradients,
            found.mask,
            tensors(SHAPES),
            ops.convert_to_tensor(2.0 - iteration),
            ops.convert_to_tensor(iteration),
            state,
        )
        before = arrays(passed)
        inputs = rules.StepInputs(
            found.gradients, *passed[3:6], mask=found.mask
        )
        updates, new_state = step(meta_params, inputs, state)
        for a, b in zip(arrays(passed), before, strict=True):
            np.testing.assert_array_equal(a, b)
        moved = [update != 0 for update in arrays(updates)]
        assert any(map(np.any, moved))
        # Rules that do not rest by themselves are masked, and a network that
        # is not trained may say 0.
        has_gradient = np.array(SPARSE) != 0
        assert not moved[2][~has_gradient].any()
        assert not rule.rests_without_gradient or moved[2][has_gradient].all()
        state = new_state


@every_rule
def test_a_rule_changes_nothing_that_is_passed_in_or_has_no_gradient(rule):
    rule = make(rule)
    assert_pure(rule, rule.init_meta_params(0))


# Those that nothing trains with on every backend.
@pytest.mark.parametrize("name", ["l2l_patches_conv", "l2l_quadratics"])
def test_a_preset_changes_nothing_that_is_passed_in_or_has_no_gradient(name):
    preset = presets.load_preset(name)
    assert_pure(preset.rule, preset.meta_params)


def test_apply_leaves_the_meta_parameters_alone():
    optimizer = keras_l2l.LearnedOptimizer()
    variable = keras.Variable(np.zeros((3, 2), "float32"))
    before = arrays(optimizer.meta_params)
    for _ in range(10):
        optimizer.apply([ops.ones((3, 2))], [variable])
    for a, b in zip(arrays(optimizer.meta_params), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_guard_within_guards_trains():
    inner = [rules.Guarded(rule) for rule in (rules.SGD(0.01), rules.Adam())]
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.Guarded(*inner))
    model.compile(optimizer, LOSS)
    history = model.fit(FEATURES, LABELS, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_rules_assign_nothing_in_place():
    folder = pathlib.Path(rules.__file__).parent
    files = [*folder.glob("*.py")]
    assert len(files) > 15
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            # On PyTorch it changes the tensor, which may be the caller's.
            # Counting `start += size` is all there is a need for.
            assert (
                not isinstance(node, ast.AugAssign)
                or ast.unparse(node.target) == "start"
            ), f"{file.name}:{node.lineno}"


def model_with_dead_inputs(optimizer):
    """Returns a model of which rows of two kernels never have a gradient."""
    tokens = keras.Input((3,), dtype="int32")
    features = keras.Input((6,))
    parts = [
        keras.layers.Flatten()(keras.layers.Embedding(9, 4)(tokens)),
        keras.layers.Dense(8, activation="tanh")(features),
    ]
    outputs = keras.layers.Dense(3)(keras.layers.Concatenate()(parts))
    model = keras.Model([tokens, features], outputs)
    model.compile(optimizer, LOSS)
    return model


@pytest.mark.parametrize(
    "name, arguments",
    [
        (None, {}),
        # The optimizer's own arguments come before any rule.
        (
            "l2l_fashion_mnist_mlp",
            {"global_clipnorm": 1.0, "gradient_accumulation_steps": 2},
        ),
    ],
    ids=["default", "clipnorm and accumulation"],
)
def test_what_never_had_a_gradient_stays(name, arguments):
    model = model_with_dead_inputs(
        keras_l2l.LearnedOptimizer(rule=name, **arguments)
    )
    embeddings, kernel = model.get_weights()[:2]
    model.fit([TOKENS, FEATURES], LABELS, batch_size=4, epochs=2, verbose=0)
    moved = (model.get_weights()[0] != embeddings).any(axis=1)
    np.testing.assert_array_equal(moved, np.arange(9) < 5)
    moved = (model.get_weights()[1] != kernel).any(axis=1)
    np.testing.assert_array_equal(moved, np.arange(6) > 1)


def test_adam_is_keras_adam_on_absent_rows_too():
    # No row twice in a batch: of those, Keras' Adam on TensorFlow sums squares
    # instead of squaring the sum.
    rng, weights = np.random.default_rng(3), []
    batches = [rng.permutation(9)[:6].reshape(2, 3) for _ in range(8)]
    tokens = np.concatenate(batches)
    for optimizer in (
        keras_l2l.LearnedOptimizer(rule=rules.Adam(0.01)),
        keras.optimizers.Adam(0.01),
    ):
        keras.utils.set_random_seed(0)
        model = model_with_dead_inputs(optimizer)
        model.fit(
            [tokens, FEATURES], LABELS, batch_size=2, shuffle=False, verbose=0
        )
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# One rule for each way to divide and to execute a step.
@pytest.mark.parametrize("rule", ["default", "l2l_digits_mlp", rules.Celo(9)])
@pytest.mark.filterwarnings("ignore:The model does not have any trainable")
def test_a_model_without_trainable_variables(rule, tmp_path):
    rule = None if rule == "default" else rule
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.trainable = False
    model.compile(keras_l2l.LearnedOptimizer(rule=rule), LOSS)
    model.fit(FEATURES, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.built
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable")
@pytest.mark.parametrize(
    "change",
    [
        "freeze",
        *(
            pytest.param(change, marks=on_tensorflow)
            for change in ("freeze all", "unfreeze", "lora")
        ),
    ],
)
def test_a_model_saved_with_other_trainable_variables(change, tmp_path):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(3)]
    )
    model.layers[0].trainable = change != "unfreeze"
    model.compile(keras_l2l.LearnedOptimizer(), LOSS)
    model.fit(FEATURES, LABELS, verbose=0)
    if change == "lora":
        model.layers[0].enable_lora(2)
    else:
        model.layers[0].trainable = change == "unfreeze"
        model.layers[1].trainable = change != "freeze all"
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="of other variables. The weights of"):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    # Keras merges LoRA's weights when it saves.
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(FEATURES)),
        ops.convert_to_numpy(model(FEATURES)),
        rtol=1e-5,
    )
    loaded.fit(FEATURES, LABELS, verbose=0)
    assert loaded.optimizer.steps_taken() == (change != "freeze all")


@on_tensorflow
@pytest.mark.parametrize("rule", [None, "l2l_digits_mlp"])
def test_a_frozen_layer_under_loss_scaling(rule, tmp_path):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(3)]
    )
    inner = keras_l2l.LearnedOptimizer(rule=rule)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), LOSS)
    model.fit(FEATURES, LABELS, verbose=0)
    model.layers[0].trainable = False
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@on_tensorflow
def test_a_clone_loads_a_state_of_its_own(tmp_path):
    def model(units, optimizer):
        found = keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)])
        found.add(keras.layers.Dense(3))
        found.compile(optimizer, LOSS)
        return found

    first = model(4, keras_l2l.LearnedOptimizer())
    first.fit(FEATURES, LABELS, verbose=0)
    clone = keras_l2l.LearnedOptimizer.from_config(first.optimizer.get_config())
    other = model(5, clone)
    other.fit(FEATURES, LABELS, verbose=0)
    other.save_weights(tmp_path / "other.weights.h5")
    other.fit(FEATURES, LABELS, verbose=0)
    other.load_weights(tmp_path / "other.weights.h5")
    assert clone.steps_taken() == 1


def test_a_model_from_hdf5(tmp_path):
    # Keras builds the optimizer without the variables of layers.
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile(keras_l2l.LearnedOptimizer(), LOSS)
    model.fit(FEATURES, LABELS, verbose=0)
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# JAX joins few in another way.
@pytest.mark.parametrize("number", [1, 3, 12])
@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_vectors_are_joined(number, dtype):
    values = [np.full(i + 1, i + 1, dtype) for i in range(number)]
    sizes = [-(-(i + 1) // 4) * 4 for i in range(number)]
    padded = [
        np.pad(value, (0, size - value.size))
        for value, size in zip(values, sizes, strict=True)
    ]
    joined = backends.joined(list(map(ops.convert_to_tensor, values)), sizes)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(joined), np.concatenate(padded)
    )
    assert keras.backend.standardize_dtype(joined.dtype) == dtype


# Of a large tensor, a sample is computed first, and on PyTorch then slices.
@pytest.mark.parametrize(
    "shape, dtype",
    [((3, 2), "float32"), ((3, 2), "bfloat16"), ((400, 400), "float32")],
)
def test_the_rate_scales_an_update(shape, dtype):
    moved = []
    for rate in (1.0, 0.25):
        optimizer = keras_l2l.LearnedOptimizer(learning_rate=rate)
        variable = keras.Variable(np.zeros(shape), dtype=dtype)
        optimizer.build([variable])
        optimizer.apply([ops.ones(shape, dtype)], [variable])
        moved.append(ops.convert_to_numpy(ops.cast(variable, "float32")))
    assert (moved[0] < 0).all()
    np.testing.assert_allclose(moved[1], 0.25 * moved[0], rtol=1e-2)
