import traceback

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM
from conftest import assert_close
from conftest import assert_same
from conftest import dense_model
from sklearn.datasets import load_digits

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.optimizer import chunks
from keras_l2l.utils import backends

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, size=64)


class Looking(rules.SGD):
    """Keeps the names of the files that call it."""

    def coordinate_step(self, *args):
        self.callers = [f.filename for f in traceback.extract_stack()]
        return super().coordinate_step(*args)


def test_autograph_converts_nothing_of_an_update():
    optimizer = keras_l2l.LearnedOptimizer(rule=Looking(0.1))
    variable = keras.Variable([1.0, 2.0])
    optimizer.build([variable])
    tf.function(lambda: optimizer.apply([tf.ones(2)], [variable]))()
    np.testing.assert_allclose(variable, [0.9, 1.9])
    callers = optimizer.rule.callers
    own = next(i for i, f in enumerate(callers) if "keras_l2l" in f)
    assert not any("autograph_generated" in f for f in callers[own:])


def classifier(optimizer, dropout=0.2, **compile_arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_arguments,
    )
    return model


def fit(model, epochs=2):
    history = model.fit(
        X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history["loss"]


def lstm(**arguments):
    return keras_l2l.LearnedOptimizer(
        rule=keras_l2l.CoordinatewiseLSTM(units=(5, 4)), **arguments
    )


def test_apply_equals_repeated_rule_step():
    rule = keras_l2l.CoordinatewiseLSTM()
    meta_params = rule.init_meta_params(3)
    optimizer = keras_l2l.LearnedOptimizer(
        0.5, rule=rule, meta_params=meta_params
    )
    rng = np.random.default_rng(0)
    params = [
        tf.constant(rng.normal(size=s), tf.float32)
        for s in ((2, 3), (), (4,), (3, 3, 1, 2))
    ]
    variables = [keras.Variable(p) for p in params]
    state = rule.init_state([tuple(p.shape) for p in params])
    for step in range(20):
        gradients = [
            tf.constant(10.0 ** rng.integers(-6, 2) * rng.normal(size=p.shape))
            for p in params
        ]
        gradients = [tf.cast(g, tf.float32) for g in gradients]
        optimizer.apply(gradients, variables)
        updates, state = rule.step(
            meta_params,
            rules.StepInputs(gradients, params, None, tf.constant(step)),
            state,
        )
        params = [p + 0.5 * u for p, u in zip(params, updates, strict=True)]
        assert_close(variables, params, rtol=1e-6, atol=1e-7)
    assert int(optimizer.iterations) == 20


def test_fit_is_the_same_however_it_is_executed():
    # XLA has random numbers of its own, hence no dropout.
    expected = fit(classifier(lstm(), dropout=0))
    assert expected[0] != expected[1]
    for arguments in (
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 2},
    ):
        losses = fit(classifier(lstm(), dropout=0, **arguments))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_custom_loop_equals_train_on_batch():
    automatic, custom = classifier(lstm()), classifier(lstm())
    for start in (0, 16, 32, 48):
        x, y = X[start : start + 16], Y[start : start + 16]
        automatic.train_on_batch(x, y)
        with tf.GradientTape() as tape:
            loss = custom.compute_loss(x, y, custom(x, training=True))
        gradients = tape.gradient(loss, custom.trainable_variables)
        custom.optimizer.apply(gradients, custom.trainable_variables)
    assert_close(
        automatic.get_weights(), custom.get_weights(), rtol=1e-5, atol=1e-6
    )


def test_a_persistent_tape_records_no_update():
    # Chunks are written by an operation that has no gradient.
    variable = keras.Variable(np.ones(2 * chunks.CHUNK + 1, "float32"))
    optimizer = lstm()
    optimizer.build([variable])

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_sum(variable.value**2)
            optimizer.apply([tape.gradient(loss, variable.value)])

    step()
    alone = keras.Variable(np.ones_like(variable.numpy()))
    lstm().apply([2 * tf.ones(alone.shape)], [alone])
    assert_close([variable], [alone], rtol=1e-6, atol=0)


def test_learning_rate_scales_the_update():
    def moved(learning_rate):
        variable = keras.Variable(np.zeros(3, "float32"))
        lstm(learning_rate=learning_rate).apply([tf.ones(3)], [variable])
        return variable.numpy()

    np.testing.assert_allclose(moved(0.5), 0.5 * moved(1.0), rtol=1e-6)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.25, 1, 0.5)
    np.testing.assert_allclose(moved(schedule), 0.25 * moved(1.0), rtol=1e-6)
    assert np.abs(moved(1.0)).min() > 0


@pytest.mark.parametrize(
    "clipping, gradient, clipped",
    [
        ({"clipvalue": 0.5}, [3.0, -0.1], [0.5, -0.1]),
        ({"clipnorm": 1.0}, [3.0, 4.0], [0.6, 0.8]),
        ({"global_clipnorm": 1.0}, [3.0, 4.0], [0.6, 0.8]),
    ],
    ids=["clipvalue", "clipnorm", "global_clipnorm"],
)
def test_clipping_happens_before_the_rule(clipping, gradient, clipped):
    values = []
    for arguments, g in ((clipping, gradient), ({}, clipped)):
        variable = keras.Variable(np.zeros(2, "float32"))
        optimizer = keras_l2l.LearnedOptimizer(rule=rules.SGD(1.0), **arguments)
        optimizer.apply([tf.constant(g)], [variable])
        values.append(variable.numpy())
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_variable_without_gradient_stays_untouched():
    a, b = (keras.Variable(np.ones(3, "float32")) for _ in range(2))
    optimizer = lstm()
    optimizer.build([a, b])
    optimizer.apply([tf.ones(3), tf.ones(3)])
    before = b.numpy(), [v.numpy()[:, 3:] for v in optimizer._state]
    moved = a.numpy()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tf.ones(3), None], [a, b])
    optimizer.apply([tf.ones(3)], [a])
    assert_same(before, (b, [v.numpy()[:, 3:] for v in optimizer._state]))
    assert np.abs(a.numpy() - moved).min() > 0


def test_complex_variables_are_refused():
    variables = [
        keras.Variable(np.ones(3), name="real"),
        keras.Variable(np.ones(3), dtype="complex64", name="fourier"),
    ]
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.SGD())
    expected = "must be real. Received: fourier of dtype complex64"
    with pytest.raises(ValueError, match=expected):
        optimizer.build(variables)
    with pytest.raises(ValueError, match=expected):
        optimizer.apply([tf.ones(3), tf.ones(3, tf.complex64)], variables)
    optimizer.apply([tf.ones(3)], variables[:1])
    np.testing.assert_allclose(variables[0], 0.99)


def test_config_keeps_the_meta_parameters():
    rule = keras_l2l.CoordinatewiseLSTM(units=(5, 4))
    optimizer = lstm(
        meta_params=rule.init_meta_params(9),
        learning_rate=0.25,
        clipnorm=2.0,
        name="mine",
    )
    for copy in (
        keras_l2l.LearnedOptimizer.from_config(optimizer.get_config()),
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
    ):
        assert_same(copy.meta_params, optimizer.meta_params)
        assert copy.get_config() == optimizer.get_config()
        assert (copy.name, copy.clipnorm) == ("mine", 2.0)


def test_meta_params_are_copied():
    rule = keras_l2l.CoordinatewiseLSTM(units=(5, 4))
    first = lstm(meta_params=rule.init_meta_params(1))
    second = lstm(meta_params=first.meta_params)
    assert_same(second.meta_params, first.meta_params)
    assert (
        second.meta_params["output"]["bias"]
        is not (first.meta_params["output"]["bias"])
    )


@pytest.mark.parametrize("rule", [3, ["x"], object()])
def test_rule_of_a_wrong_type(rule):
    with pytest.raises(
        ValueError, match="must be a keras_l2l.UpdateRule.*Pres"
    ):
        keras_l2l.LearnedOptimizer(rule=rule)


def test_meta_params_without_a_rule():
    with pytest.raises(ValueError, match="`meta_params` need a `rule`"):
        keras_l2l.LearnedOptimizer(meta_params={})


def test_meta_params_of_another_rule():
    rule = keras_l2l.CoordinatewiseLSTM(units=(7,))
    with pytest.raises(ValueError, match="lstm_1/kernel: expected"):
        lstm(meta_params=rule.init_meta_params(0))


def test_default_is_the_shipped_preset():
    assert presets.DEFAULT in keras_l2l.LearnedOptimizer.presets
    default = keras_l2l.LearnedOptimizer()
    named = keras_l2l.LearnedOptimizer.from_preset(presets.DEFAULT)
    assert_same(default.meta_params, named.meta_params)
    assert default.name.startswith("learned_optimizer")
    registered = keras.optimizers.get("keras_l2l>LearnedOptimizer")
    assert isinstance(registered, keras_l2l.LearnedOptimizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, callbacks",
    [
        (lambda: "keras_l2l>LearnedOptimizer", [keras_l2l.TrainingLength()]),
        (lambda: keras_l2l.LearnedOptimizer(rule="l2l_networks"), []),
    ],
    ids=["default", "l2l_networks"],
)
def test_presets_for_full_runs_may_stay_for_many_epochs(make, callbacks):
    x, y = load_digits(return_X_y=True)

    def losses(optimizer, callbacks=()):
        keras.utils.set_random_seed(0)
        model = dense_model(24, 10, inputs=64, activation="tanh")
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        fitted = model.fit(
            x / 16, y, 64, epochs=20, verbose=0, callbacks=list(callbacks)
        )
        return np.array(fitted.history["loss"])

    learned, adam = losses(make(), callbacks), losses("adam")
    # Sooner there at first, and far below in the end: 580 steps.
    assert (learned < adam).all()
    assert learned[-1] < 0.1 * adam[-1]


def test_update_is_the_same_without_xla(monkeypatch):
    # In chunks.
    monkeypatch.setattr(chunks, "CHUNK", 10)
    model = classifier(lstm(), jit_compile=False)
    fit(model)
    monkeypatch.setattr(backends, "has_xla", lambda: False)
    plain = classifier(lstm(), jit_compile=False)
    fit(plain)
    assert_close(model.weights, plain.weights, rtol=0, atol=1e-6)


def test_xla_is_found_or_missed():
    assert backends.has_xla()

    def fail(*args, **kwargs):
        raise tf.errors.UnimplementedError(None, None, "no XLA")

    backends.has_xla.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "function", lambda *args, **kwargs: fail)
        assert not backends.has_xla()
        assert not backends.writes_in_place()
    backends.has_xla.cache_clear()


def test_a_large_model_is_updated_in_chunks():
    shapes = [(2, chunks.CHUNK + 3), (2 * chunks.CHUNK,)]
    rng = np.random.default_rng(0)
    optimizer = keras_l2l.LearnedOptimizer(rule=LSTM)
    variables = [keras.Variable(np.zeros(s, "float32")) for s in shapes]
    rule = optimizer.rule
    params = [tf.zeros(s) for s in shapes]
    state = rule.init_state(shapes)
    for i in range(2):
        gradients = [rng.normal(size=s).astype("float32") for s in shapes]
        if i == 1:
            gradients[0][:, ::7] = np.nan
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        mask = [np.isfinite(g) for g in gradients]
        inputs = rules.StepInputs(gradients, params, None, i, mask)
        updates, state = rule.step(optimizer.meta_params, inputs, state)
        params = [p + u for p, u in zip(params, updates, strict=True)]
    for variable, expected in zip(variables, params, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=0, atol=1e-6)
        assert (variable.numpy() != 0).all()


def test_state_in_half_of_the_memory(tmp_path):
    model, half = (
        classifier(
            keras_l2l.LearnedOptimizer(rule=LSTM, state_dtype=dtype), dropout=0
        )
        for dtype in ("float32", "bfloat16")
    )
    # Beside a byte for each parameter.
    n = sum(v.numpy().size for v in model.trainable_variables)
    taken = [m.optimizer.estimate_memory(m) - n for m in (model, half)]
    assert taken[0] == 2 * taken[1]
    expected, losses = fit(model), fit(half)
    sizes = [
        sum(np.asarray(v).nbytes for v in m.optimizer._state)
        for m in (model, half)
    ]
    assert sizes == taken
    np.testing.assert_allclose(losses, expected, rtol=0.02)
    assert losses != expected
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert loaded.optimizer.get_config()["state_dtype"] == "bfloat16"
    fit(half), fit(loaded)
    assert_same(half.weights, loaded.weights)
    assert_same(half.optimizer.variables, loaded.optimizer.variables)


def test_state_of_moving_averages_is_not_rounded():
    lstm_alone = rules.Partition([], rules.CoordinatewiseLSTM())
    keras_l2l.LearnedOptimizer(rule=lstm_alone, state_dtype="bfloat16")
    with_adam = rules.Partition([("a", rules.Adam())], lstm_alone)
    for rule in (rules.Adam(), with_adam):
        with pytest.raises(ValueError, match="small changes add up"):
            keras_l2l.LearnedOptimizer(rule=rule, state_dtype="bfloat16")


@pytest.mark.parametrize("saved, new", [(0, 1), (1, 0)])
@pytest.mark.parametrize("built", [False, True])
def test_states_of_different_dtypes_are_not_mixed_up(saved, new, built):
    optimizers = [
        keras_l2l.LearnedOptimizer(rule=LSTM, state_dtype=dtype)
        for dtype in ("float32", "bfloat16")
    ]
    variables = [keras.Variable(np.zeros(3))]
    store = {}
    optimizers[saved].build(variables)
    optimizers[saved].save_own_variables(store)
    if built:
        optimizers[new].build(variables)
    with pytest.raises(ValueError, match=r"\(20, 3\) of integers"):
        optimizers[new].load_own_variables(store)
        optimizers[new].build(variables)


def _outside_xla(gradient):
    return tf.ensure_shape(
        tf.numpy_function(lambda g: g, [gradient], tf.float32), gradient.shape
    )


@keras.saving.register_keras_serializable(package="tests")
class _WithoutXla(rules.SGD):
    jit_compile = False

    def coordinate_step(self, meta_params, gradient, state, iteration):
        return super().coordinate_step(
            meta_params, _outside_xla(gradient), state, iteration
        )


@keras.saving.register_keras_serializable(package="tests")
class _TensorwiseWithoutXla(rules.MLPRule):
    jit_compile = False

    def tensor_step(self, meta_params, gradient, *others):
        return super().tensor_step(meta_params, _outside_xla(gradient), *others)


def test_variables_are_made_outside_of_the_step_that_is_traced():
    variable = keras.Variable(np.zeros(3))
    optimizer = keras_l2l.LearnedOptimizer()
    step = tf.function(lambda: optimizer.apply([tf.ones(3)], [variable]))
    kinds = {
        op.type for op in step.get_concrete_function().graph.get_operations()
    }
    # Else each is initialized by one.
    assert not kinds & {"If", "StatelessIf"}


def test_a_rule_that_xla_cannot_compile():
    variable = keras.Variable(np.zeros(3))
    optimizer = keras_l2l.LearnedOptimizer(rule=_WithoutXla(0.5))
    tf.function(lambda: optimizer.apply([tf.ones(3)], [variable]))()
    np.testing.assert_array_equal(variable, [-0.5] * 3)


def test_a_tensorwise_rule_that_xla_cannot_compile():
    moved = []
    for rule in (_TensorwiseWithoutXla(), rules.MLPRule()):
        variable = keras.Variable(np.zeros(3))
        optimizer = keras_l2l.LearnedOptimizer(rule=rule)
        optimizer.apply([tf.ones(3)], [variable])
        moved.append(variable.numpy())
    assert (moved[0] < 0).all()
    np.testing.assert_allclose(*moved, rtol=1e-5)
