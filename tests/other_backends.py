"""What holds on backends other than TensorFlow, for backends_test.

TensorFlow cannot be imported: nothing that these backends run may need it.
"""

import sys

sys.modules["tensorflow"] = None

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import keras_l2l  # noqa: E402
from keras_l2l import command  # noqa: E402
from keras_l2l import rules  # noqa: E402
from keras_l2l.optimizer import chunks  # noqa: E402
from keras_l2l.utils import tracing  # noqa: E402

X, Y = np.ones((8, 3)), np.ones((8, 1))
# A rule that JAX compiles quickly, where the rule does not matter.
LSTM = "l2l_fashion_mnist_mlp"

on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="of JAX's stateless calls"
)

on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="of how PyTorch is called"
)


@pytest.mark.parametrize(
    "name", ["meta_train", "evaluation", "export", "tasks"]
)
def test_what_needs_tensorflow_says_so(name):
    with pytest.raises(RuntimeError) as caught:
        getattr(keras_l2l, name)
    message = str(caught.value)
    assert "must run on Keras' TensorFlow backend. Received: " in message
    assert "KERAS_BACKEND=tensorflow" in message


def test_the_command_says_so_without_a_traceback():
    with pytest.raises(SystemExit, match="error: keras-l2l compare must run"):
        command.main(["compare", "--model=m:f", "--data=m:d", "--loss=mse"])


@on_jax
def test_fit_notices_changed_meta_parameters():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras_l2l.LearnedOptimizer(rule=LSTM), "mse")

    def moved():
        before = model.get_weights()[0]
        model.fit(X, Y, verbose=0)
        return abs(model.get_weights()[0] - before).max()

    assert moved() > 0.001
    for variable in keras.tree.flatten(model.optimizer.meta_params["output"]):
        variable.assign(0.0 * variable)
    assert moved() == 0


def message_of_a_frozen_layer(optimizer):
    layers = [keras.layers.Dense(2), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)
    layers[0].trainable = False
    with pytest.raises(ValueError) as caught:
        model.fit(X, Y, verbose=0)
    return str(caught.value)


@on_jax
def test_why_a_layer_cannot_be_frozen_after_fit():
    expected = message_of_a_frozen_layer(keras.optimizers.Adam())
    assert "optimizer was built with 4 variables" in expected
    for arguments in (
        {},
        {
            "rule": LSTM,
            "horizon": 5,
            "use_ema": True,
            "gradient_accumulation_steps": 2,
        },
    ):
        optimizer = keras_l2l.LearnedOptimizer(**arguments)
        assert message_of_a_frozen_layer(optimizer) == expected


def optimizer_and_state():
    """Returns a guarded optimizer of one variable, its value and its state."""
    rule = rules.Guarded(rules.SGD(0.1))
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    variable = keras.Variable(3.0)
    optimizer.build([variable])
    return optimizer, [variable.value], [v.value for v in optimizer.variables]


@on_jax
@pytest.mark.parametrize("scale_within", [True, False])
def test_a_loss_is_seen_where_gradients_are_applied(scale_within):
    import jax

    optimizer, params, state = optimizer_and_state()

    @jax.jit
    def step(params, state):
        def loss_of(param):
            loss = param**2
            return optimizer.scale_loss(loss) if scale_within else loss

        loss, gradient = jax.value_and_grad(loss_of)(params[0])
        if not scale_within:
            optimizer.scale_loss(loss)
        return optimizer.stateless_apply(state, [gradient], params)

    for _ in range(2):
        params, state = step(params, state)
    for variable, value in zip(optimizer.variables, state, strict=True):
        variable.assign(value)
    (parts,) = optimizer._pack_state(optimizer._state)
    # 3 and 3 - 0.1 * 6, squared.
    average = float(parts["monitor"]["average"])
    assert average == pytest.approx((9 + 2.4**2) / 2)


@on_jax
@pytest.mark.parametrize("jit_loss", [True, False])
def test_a_loss_that_is_seen_elsewhere_is_refused(jit_loss):
    import jax

    optimizer, params, state = optimizer_and_state()
    message = r"Call optimizer\.scale_loss\(loss\) where optimizer\.app"
    with pytest.raises(ValueError, match=message):
        if jit_loss:
            loss_of = jax.jit(lambda param: optimizer.scale_loss(param**2))
            _, gradient = jax.value_and_grad(loss_of)(params[0])
            optimizer.apply([gradient])
        else:
            optimizer.scale_loss(keras.ops.convert_to_tensor(9.0))
            jax.jit(optimizer.stateless_apply)(state, [params[0]], params)


@on_jax
def test_a_loss_is_not_accumulated():
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.CeloAdam(20), gradient_accumulation_steps=2
    )
    message = "`gradient_accumulation_steps` cannot see in JAX"
    with pytest.raises(ValueError, match=message):
        optimizer.scale_loss(keras.ops.convert_to_tensor(9.0))
        optimizer.apply([keras.ops.ones(())], [keras.Variable(3.0)])


def trained(gradients, slice_size, monkeypatch, **kwargs):
    """Returns what steps make of a variable, and the optimizer."""
    monkeypatch.setattr(chunks, "SLICE", slice_size)
    variable = keras.Variable(np.full(gradients[0].shape, 0.5, "float32"))
    optimizer = keras_l2l.LearnedOptimizer(**kwargs)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return [
        np.array(keras.ops.convert_to_numpy(v))
        for v in (variable, *optimizer.variables)
    ], optimizer


@on_torch
@pytest.mark.parametrize("size", [40_000, 20_001, 7_000])
@pytest.mark.parametrize("bad", [False, True])
def test_slices_are_updated_as_the_whole(size, bad, monkeypatch):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(3, 200, 251)).astype("float32")
    if bad:
        gradients[1, 0, :5] = np.nan
        gradients[1, -1, -5:] = np.inf
    expected, _ = trained(gradients, 10**6, monkeypatch)
    received, optimizer = trained(gradients, size, monkeypatch)
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert int(optimizer.skipped_steps) == bad
    told = " ".join(optimizer.remarks())
    assert ("NaN or infinite, so far: 1" in told) == bad


@on_torch
def test_what_torch_compiles_has_no_slices(monkeypatch):
    tensors = [keras.ops.zeros((chunks.SLICE + 1,))]
    assert chunks.has_slices(tensors)
    monkeypatch.setattr(tracing, "traces", lambda: False)
    assert not chunks.has_slices(tensors)


@on_torch
def test_what_is_not_finite_is_masked(monkeypatch):
    gradients = np.ones((2, 3), "float32")
    gradients[1] = [1.0, np.nan, 1.0]
    steps = [
        trained(gradients[:n], 10**6, monkeypatch, learning_rate=0.5)[0][0]
        for n in (1, 2)
    ]
    assert ((steps[1] != steps[0]) == [True, False, True]).all()
    assert np.isfinite(steps[1]).all()


@on_torch
def test_large_gradients_are_finite(monkeypatch):
    # Their sum is not.
    gradients = np.full((1, 4), 3e38, "float32")
    (value, *_), optimizer = trained(gradients, 10**6, monkeypatch)
    assert (value != 0.5).all() and int(optimizer.skipped_steps) == 0


def test_a_variable_without_a_gradient_rests():
    optimizer = keras_l2l.LearnedOptimizer()
    variables = [keras.Variable(np.ones((2, 3), "float32")) for _ in range(2)]
    optimizer.build(variables)
    ones = keras.ops.ones((2, 3))
    optimizer.apply([ones, ones], variables)
    before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, ones], variables)
    after = [keras.ops.convert_to_numpy(v) for v in variables]
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).all()


def test_a_variable_is_given_once():
    optimizer = keras_l2l.LearnedOptimizer()
    variable = keras.Variable(np.ones((2, 3), "float32"))
    ones = keras.ops.ones((2, 3))
    optimizer.build([variable])
    with pytest.raises(ValueError, match="2 variables, of which 1 are diff"):
        optimizer.apply([ones, ones], [variable, variable])


@on_torch
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_autocast_does_not_round_the_update(scale):
    import torch

    def updated(enabled):
        optimizer = keras_l2l.LearnedOptimizer()
        variable = keras.Variable(np.ones((30, 4), "float32"))
        gradient = scale * keras.ops.ones((30, 4))
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            optimizer.apply([gradient], [variable])
        return keras.ops.convert_to_numpy(variable)

    np.testing.assert_array_equal(updated(True), updated(False))
