import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import rules

X = np.ones((12, 3), "float32")


def model(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def fit(model, x=X, y=X[:, :1], epochs=5, **arguments):
    callback = keras_l2l.TrainingLength()
    model.fit(x, y, epochs=epochs, callbacks=[callback], verbose=0, **arguments)


@pytest.mark.parametrize("accumulation, steps", [(None, 15), (2, 7), (99, 1)])
def test_length_of_a_fit(accumulation, steps):
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.CeloAdam(), gradient_accumulation_steps=accumulation
    )
    trained = model(optimizer)
    fit(trained, batch_size=4)
    assert optimizer.rule.num_steps == steps
    # A second one changes nothing, and it is saved.
    fit(trained, batch_size=1)
    assert optimizer.rule.num_steps == steps
    copy = keras_l2l.LearnedOptimizer.from_config(optimizer.get_config())
    assert copy.rule.num_steps == steps


@pytest.mark.parametrize("accumulation, steps", [(None, 3), (2, 1.5)])
def test_what_an_epoch_is(accumulation, steps):
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.MomentumMixture(), gradient_accumulation_steps=accumulation
    )
    trained = model(optimizer)
    fit(trained, batch_size=4)
    assert optimizer.rule.steps_per_epoch == steps
    fit(trained, batch_size=1)
    assert optimizer.rule.steps_per_epoch == steps
    copy = keras_l2l.LearnedOptimizer.from_config(optimizer.get_config())
    assert copy.rule.steps_per_epoch == steps


def test_what_the_rule_was_told_stays():
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.CeloAdam(num_steps=3))
    fit(model(optimizer))
    assert optimizer.rule.num_steps == 3
    # For other rules it means nothing.
    fit(model(keras_l2l.LearnedOptimizer()))


def test_within_other_optimizers():
    inner = keras_l2l.LearnedOptimizer(
        rule=rules.Partition([("bias", rules.Celo())], rules.SGD())
    )
    fit(model(keras.optimizers.LossScaleOptimizer(inner)), batch_size=6)
    (_, member), *_ = inner.rule.members
    assert member.num_steps == 10


def test_mistakes():
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.CeloAdam())
    with pytest.raises(ValueError, match="num_steps=None.*TrainingLength"):
        model(optimizer).fit(X, X[:, :1], verbose=0)
    with pytest.raises(ValueError, match="must be a LearnedOptimizer"):
        fit(model("sgd"))

    def batches():
        while True:
            yield X, X[:, :1]

    optimizer = keras_l2l.LearnedOptimizer(rule=rules.CeloAdam())
    with pytest.raises(ValueError, match="Pass steps_per_epoch"):
        fit(model(optimizer), batches(), None, shuffle=False)
    fit(model(optimizer), batches(), None, shuffle=False, steps_per_epoch=2)
    assert optimizer.rule.num_steps == 10
