"""Wherever an optimizer is saved, training continues exactly, or it raises."""

import copy
import pickle

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM
from conftest import assert_same
from conftest import dense_model
from conftest import leaves

import keras_l2l
from keras_l2l import rules
from keras_l2l.optimizer import chunks

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)
RULE = rules.CoordinatewiseLSTM(units=(5, 4))


@pytest.fixture
def dtype_policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def optimizer(seed=7, rule=RULE, **arguments):
    if isinstance(rule, rules.UpdateRule):
        arguments["meta_params"] = rule.init_meta_params(seed)
    return keras_l2l.LearnedOptimizer(rule=rule, **arguments)


def classifier(seed=7, **arguments):
    keras.utils.set_random_seed(0)
    model = dense_model(8, 3, inputs=6, activation="sigmoid")
    model.compile(
        optimizer(seed, **arguments),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, epochs=2, **arguments):
    history = model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **arguments,
    )
    return history.history["loss"]


def saved(original):
    """Returns the arrays that an optimizer saves, by their numbers."""
    store = {}
    original.save_own_variables(store)
    return {k: v for k, v in store.items() if k.isdigit()}


def meta_params_of(seed):
    return RULE.init_meta_params(seed)


# The table "where the meta-parameters live", a row each. A model with another
# seed has other meta-parameters, so that only what was saved can bring them.


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"learning_rate": 0.3, "clipnorm": 1.0},
        {"weight_decay": 0.001, "use_ema": True},
        {"gradient_accumulation_steps": 2},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(1.0, 20)},
    ],
    ids=lambda a: ",".join(a) or "plain",
)
def test_keras_file(arguments, tmp_path):
    model = classifier(**arguments)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded.optimizer.meta_params, meta_params_of(7))
    assert_same(loaded.optimizer.variables, model.optimizer.variables)
    assert fit(loaded) == fit(model)
    assert_same(loaded.get_weights(), model.get_weights())


def test_keras_file_in_a_process_that_must_import_the_package(tmp_path):
    # As the README says.
    classifier().save(tmp_path / "model.keras")
    (tmp_path / "load.py").write_text("""
import keras
try:
    keras.models.load_model("model.keras")
except TypeError as error:
    print("LearnedOptimizer" in str(error))
import keras_l2l
print(type(keras.models.load_model("model.keras").optimizer).__name__)
""")
    done = forked.run_file(tmp_path / "load.py", tmp_path)
    assert done.stdout.split() == ["True", "LearnedOptimizer"], done.stderr


def test_keras_file_of_a_model_never_trained(tmp_path):
    model = classifier()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded.optimizer.meta_params, meta_params_of(7))
    assert fit(loaded) == fit(model)


def test_keras_file_of_mixed_float16(tmp_path, dtype_policy):
    dtype_policy("mixed_float16")
    model = classifier()
    fit(model)
    model.save(tmp_path / "model.keras")
    saved = leaves(model.optimizer.inner_optimizer.variables)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded.optimizer.variables, model.optimizer.variables)
    assert fit(loaded) == fit(model)
    dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras_l2l.LearnedOptimizer)
    assert_same(loaded.optimizer.variables, saved)


def test_keras_file_of_float32_under_mixed_float16(tmp_path, dtype_policy):
    # Keras' LossScaleOptimizer skips the state, around Adam too.
    model = classifier()
    fit(model)
    model.save(tmp_path / "model.keras")
    dtype_policy("mixed_float16")
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    inner = loaded.optimizer.inner_optimizer
    assert_same(inner.meta_params, meta_params_of(7))
    fit(loaded)
    assert inner.iterations.numpy() == 8


def test_weights_file(tmp_path):
    model = classifier()
    fit(model)
    model.save_weights(tmp_path / "model.weights.h5")
    expected = fit(model)
    for built in (False, True):
        other = classifier(seed=8)
        if built:
            other.optimizer.build(other.trainable_variables)
        other.load_weights(tmp_path / "model.weights.h5")
        assert_same(other.optimizer.meta_params, meta_params_of(7))
        assert fit(other) == expected
        assert_same(other.optimizer.variables, model.optimizer.variables)


def test_weights_file_where_the_learning_rate_is_a_schedule(tmp_path):
    model = classifier()
    fit(model)
    model.save_weights(tmp_path / "model.weights.h5")
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 20)
    other = classifier(seed=8, learning_rate=schedule)
    other.optimizer.build(other.trainable_variables)
    before = leaves(other.optimizer.variables)
    # One variable fewer, as for Adam.
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other.optimizer.variables, before)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize(
    "saved, new",
    [
        ("adam", LSTM),
        ("adam", rules.SGD()),
        ("adam", None),
        (None, LSTM),
        (None, "adam"),
        (RULE, rules.CoordinatewiseLSTM((3, 4))),
        (rules.SGD(), RULE),
    ],
    ids=lambda rule: rule if isinstance(rule, str) else type(rule).__name__,
)
def test_weights_of_a_model_of_another_optimizer(saved, new, suffix, tmp_path):
    def compiled(rule):
        model = classifier()
        adam = keras.optimizers.Adam()
        model.compile(
            adam if rule == "adam" else keras_l2l.LearnedOptimizer(rule=rule),
            "mse",
        )
        return model

    model, path = compiled(saved), (tmp_path / "model").with_suffix(suffix)
    model.optimizer.build(model.trainable_variables)
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    save = model.save if suffix == ".keras" else model.save_weights
    save(path)
    for built in (False, True):
        other = compiled(new)
        if built:
            other.optimizer.build(other.trainable_variables)
        before = leaves(other.optimizer.variables)
        with pytest.warns(UserWarning, match="Skipping variable") as found:
            other.load_weights(path)
        assert len([w for w in found if w.category is UserWarning]) == 1
        assert_same(other.get_weights(), model.get_weights())
        assert_same(other.optimizer.variables[: len(before)], before)
        other.optimizer.build(other.trainable_variables)


@pytest.mark.parametrize("built", [False, True])
def test_weights_file_of_an_optimizer_with_another_state(tmp_path, built):
    model = classifier()
    fit(model)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other = classifier(seed=8, use_ema=True)
    if built:
        other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="must have the shapes of") as error:
        other.load_weights(path)
        fit(other)
    # Most of it are Keras' words, and names of objects.
    assert len(str(error.value)) < 800
    # What the message says.
    assert "call load_weights before compile" in str(error.value)
    assert_afresh(other, use_ema=True)
    other = keras.models.clone_model(model)
    other.load_weights(path)
    assert_same(other.get_weights(), model.get_weights())


def assert_afresh(model, **arguments):
    """Nothing that the optimizer has loaded is left, and it trains."""
    fresh = classifier(seed=8, **arguments)
    fresh.optimizer.build(fresh.trainable_variables)
    model.optimizer.build(model.trainable_variables)
    assert_same(model.optimizer.variables, fresh.optimizer.variables)
    # Keras' trainer does not go on after an error in its first step.
    model.compile(model.optimizer, model.loss)
    fit(model)
    assert model.optimizer.iterations.numpy() == 8


def _freeze(model):
    model.layers[0].trainable = False


def _enable_lora(model):
    model.layers[0].enable_lora(2)


@pytest.mark.parametrize("change", [_freeze, _enable_lora])
def test_a_model_that_changes_after_its_weights_are_loaded(change, tmp_path):
    model = classifier(rule="l2l_varied")
    fit(model)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other = classifier(rule="l2l_varied")
    other.load_weights(path)
    change(other)
    fresh = keras_l2l.LearnedOptimizer()
    fresh.build(other.trainable_variables)
    with pytest.warns(UserWarning, match="starts afresh"):
        other.optimizer.build(other.trainable_variables)
    assert_same(other.optimizer.variables, fresh.variables)
    fit(other)


@pytest.mark.parametrize(
    "built, policy, suffix",
    [
        (False, "float32", ".weights.h5"),
        (True, "float32", ".weights.h5"),
        (True, "float32", ".keras"),
        (True, "mixed_float16", ".keras"),
    ],
)
def test_state_of_other_variables(
    built, policy, suffix, tmp_path, dtype_policy
):
    # Blocks of the default have the same shape, whatever is in them.
    dtype_policy(policy)
    model = classifier(rule="l2l_varied")
    first, last = model.layers
    last.trainable = False
    fit(model)
    first.trainable, last.trainable = False, True
    path = (tmp_path / "model").with_suffix(suffix)
    save = model.save if suffix == ".keras" else model.save_weights
    save(path)
    other = classifier(rule="l2l_varied")
    other.layers[0].trainable = False
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        if suffix == ".keras":
            other = keras.models.load_model(path)
        else:
            if built:
                other.optimizer.build(other.trainable_variables)
            other.load_weights(path)
            other.optimizer.build(other.trainable_variables)
    assert other.optimizer.iterations.numpy() == 0
    assert_same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("change", ["less", "other shape", "other name"])
def test_a_damaged_state(change):
    variable, original = keras.Variable(np.ones(3, "float32")), optimizer()
    original.apply([tf.ones(3)], [variable])
    store = saved(original)
    # What earlier versions did not save may be missing.
    for _ in range(2):
        store.pop(max(store, key=int))
    last = store.pop(max(store, key=int))
    if change == "other shape":
        store[str(len(store))] = last[:-1]
    other = optimizer(seed=8)
    other.build([variable])
    if change == "other name":
        store["state"] = last
        with pytest.warns(UserWarning, match="starts afresh"):
            other.load_own_variables(store)
        assert_same(other.meta_params, meta_params_of(8))
        return
    with pytest.raises(ValueError, match="must have the shapes of"):
        other.load_own_variables(store)


def test_values_for_variables_that_are_never_made():
    original, variable = optimizer(), keras.Variable(np.ones(3, "float32"))
    original.apply([tf.ones(3)], [variable])
    store = saved(original)
    store[str(len(store))] = np.ones(5)
    other = optimizer()
    other.load_own_variables(store)
    with pytest.raises(ValueError, match=r"one more: expected none, .*\(5,\)"):
        other.build([variable])


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
@pytest.mark.parametrize("steps", [0, 3])
def test_deepcopy_and_pickle(duplicate, steps):
    variable = keras.Variable(np.ones(3, "float32"))
    original = optimizer(use_ema=True)
    for _ in range(steps):
        original.apply([tf.ones(3)], [variable])
    twin, twin_variable = duplicate(original), keras.Variable(variable)
    for _ in range(2):
        original.apply([tf.ones(3)], [variable])
        twin.apply([tf.ones(3)], [twin_variable])
    np.testing.assert_array_equal(variable, twin_variable)
    assert_same(twin.variables, original.variables)


def test_tensorflow_checkpoint(tmp_path):
    model = classifier()
    fit(model)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.save(str(tmp_path / "checkpoint"))
    other = classifier(seed=8)
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(
        path
    ).assert_existing_objects_matched()
    assert_same(other.optimizer.meta_params, meta_params_of(7))
    assert fit(other) == fit(model)


def test_saved_model_of_plain_variables(tmp_path):
    module = tf.Module()
    model = classifier()
    fit(model)
    module.values = [v.value for v in model.optimizer.variables]
    tf.saved_model.save(module, str(tmp_path / "plain"))
    loaded = tf.saved_model.load(str(tmp_path / "plain"))
    assert_same(list(loaded.values), model.optimizer.variables)


def test_backup_and_restore(tmp_path):
    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    expected = classifier()
    losses = fit(expected, epochs=4)
    folder = tmp_path / "backup"
    backup = keras.callbacks.BackupAndRestore(folder)
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), epochs=4, callbacks=[backup, Interruption()])
    resumed = classifier(seed=8)
    backup = keras.callbacks.BackupAndRestore(folder)
    assert fit(resumed, epochs=4, callbacks=[backup]) == losses[2:]
    assert_same(resumed.optimizer.variables, expected.optimizer.variables)


def test_state_left_out_on_request(tmp_path):
    sizes = {}
    for save_state in (True, False):
        model = classifier(save_state=save_state)
        fit(model)
        path = tmp_path / f"{save_state}.keras"
        model.save(path)
        sizes[save_state] = path.stat().st_size
        loaded = keras.models.load_model(path)
        assert loaded.optimizer.save_state is save_state
        assert_same(loaded.optimizer.meta_params, meta_params_of(7))
        assert loaded.optimizer.iterations.numpy() == 8
        assert any(np.any(v) for v in leaves(loaded.optimizer._state)) is (
            save_state
        )
        fit(loaded)
    assert sizes[False] < sizes[True]


def test_state_that_was_left_out_goes_into_an_optimizer_with_state(tmp_path):
    model = classifier(save_state=False)
    fit(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other = classifier(seed=8)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other.optimizer.meta_params, meta_params_of(7))
    fit(other)


def trained_in_chunks(monkeypatch, chunk, store=None, written=None, steps=2):
    """Returns an optimizer after some steps, in chunks.

    Args:
        store: Dict to load before the steps, if there is one.
        written: When to load it, "before" or "after" `build`.
    """
    monkeypatch.setattr(chunks, "CHUNK", chunk)
    twin = optimizer(state_dtype="bfloat16")
    variables = [keras.Variable(np.ones(s, "float32")) for s in ((7, 3), (4,))]
    if written == "before":
        twin.load_own_variables(store)
    twin.build(variables)
    if written == "after":
        twin.load_own_variables(store)
    for _ in range(steps):
        twin.apply([tf.ones((7, 3)), -tf.ones(4)])
    return twin, variables


@pytest.mark.parametrize("written", ["before", "after"])
def test_a_state_saved_in_chunks_of_another_size(written, monkeypatch):
    original, _ = trained_in_chunks(monkeypatch, 4)
    store = saved(original)
    # The plain vector, whatever the chunks.
    assert len(store) == len(original.variables)
    # What follows are two tensors of what was seen, and the skipped steps.
    assert store[str(len(store) - 1 - 3)].shape == (4, 25)
    same, expected = trained_in_chunks(monkeypatch, 4, store, written)
    other, received = trained_in_chunks(monkeypatch, 7, store, written)
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert_same(same.variables, other.variables)


def test_a_state_is_loaded_whole_or_not_at_all(monkeypatch):
    original, variables = trained_in_chunks(monkeypatch, 4)
    store = saved(original)
    del store[str(len(store) - 1)]
    twin = optimizer(state_dtype="bfloat16")
    twin.load_own_variables(store)
    with pytest.raises(ValueError, match="skipped_steps.*received none"):
        twin.build(variables)


def test_a_scaled_optimizer_is_saved_in_chunks_of_another_size(monkeypatch):
    inner, variables = trained_in_chunks(monkeypatch, 4)
    scaled = keras.optimizers.LossScaleOptimizer(inner)
    scaled.build(variables)
    store = saved(scaled)
    assert len(store) == 4 + len(inner.variables)
    other, variables = trained_in_chunks(monkeypatch, 7)
    twin = keras.optimizers.LossScaleOptimizer(other)
    twin.build(variables)
    twin.load_own_variables(store)
    assert_same(other.variables, inner.variables)
    # Under a policy without scaling.
    plain, _ = trained_in_chunks(monkeypatch, 7, store, "after")
    assert plain.iterations.numpy() == 4
