"""Keras' optimizers with learned optimizers in them."""

import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import rules

pytestmark = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="This version of Keras has no MultiOptimizer.",
)

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 20, size=(64, 4))
Y = RNG.normal(size=20)[TOKENS].sum(1, keepdims=True).astype("float32")


def multi(*learned):
    """Returns Adam for embeddings, and these for what begins with a, b, ..."""
    pairs = zip("ab", learned, strict=False)
    found = {f".*{letter}/[a-z]+": one for letter, one in pairs}
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.01), found)
    )


def regression(optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(20, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh", name="a"),
            keras.layers.Dense(1, name="b"),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, epochs=2):
    return model.fit(
        TOKENS,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history["loss"]


class ByLoss(rules.UpdateRule):
    """Its update is the loss."""

    uses_loss = needs_loss = True

    def init_meta_params(self, seed):
        return {}

    def init_state(self, shapes):
        return {}

    def step(self, meta_params, inputs, state):
        return [0 * g + inputs.loss for g in inputs.gradients], state


@pytest.mark.parametrize("scaled", [False, True])
def test_all_in_a_multi_optimizer_see_the_loss(scaled):
    optimizer = multi(
        keras_l2l.LearnedOptimizer(rule=ByLoss()),
        keras_l2l.LearnedOptimizer(rule=ByLoss()),
    )
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = regression(optimizer)
    before = model.get_weights()
    loss = model.evaluate(TOKENS, Y, verbose=0)
    model.fit(TOKENS, Y, batch_size=64, verbose=0)
    embeddings, *others = (
        after - first
        for after, first in zip(model.get_weights(), before, strict=True)
    )
    # Adam's, for each of a row's gradients.
    assert 0 < abs(embeddings).max() < 0.1 < loss
    for moved in others:
        np.testing.assert_allclose(moved, loss, rtol=1e-4)


def test_a_saved_multi_optimizer_goes_on(tmp_path):
    model = regression(multi(keras_l2l.LearnedOptimizer(rule=rules.Adam(0.01))))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(fit(loaded), fit(model), rtol=1e-6)


def test_training_length_tells_all():
    optimizers = [
        keras_l2l.LearnedOptimizer(rule=rules.CeloAdam()),
        keras_l2l.LearnedOptimizer(rule=rules.CeloAdam()),
    ]
    model = regression(multi(*optimizers))
    fit(model, keras_l2l.TrainingLength(), epochs=3)
    assert [o.rule.num_steps for o in optimizers] == [12, 12]


def test_update_monitor_watches_one():
    sgd = [keras_l2l.LearnedOptimizer(rule=rules.SGD(0.01)) for _ in range(2)]
    monitor = keras_l2l.callbacks.UpdateMonitor(interval=4)
    fit(regression(multi(sgd[0])), monitor)
    assert monitor.history["step"] == [1, 5]
    kernel, bias = monitor.history["variables"]
    assert kernel.endswith("a/kernel")
    assert bias.endswith("a/bias")
    with pytest.raises(ValueError, match="exactly one.*with 2 of them"):
        fit(regression(multi(*sgd)), monitor)
