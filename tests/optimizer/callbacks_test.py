import keras
import numpy as np
import pytest
from conftest import dense_model

import keras_l2l
from keras_l2l import rules

X = np.ones((12, 3), "float32")


def model(optimizer):
    keras.utils.set_random_seed(0)
    model = dense_model(1)
    model.compile(optimizer, "mse")
    return model


def fit(model, x=X, y=X[:, :1], epochs=5, **arguments):
    callback = keras_l2l.TrainingLength()
    model.fit(x, y, epochs=epochs, callbacks=[callback], verbose=0, **arguments)


@pytest.mark.parametrize(
    "accumulation, steps, of_epoch",
    [(None, 15, 3), (2, 7, 1.5), (99, 1, 1 / 33)],
)
def test_length_of_a_fit_and_of_an_epoch(accumulation, steps, of_epoch):
    optimizer = keras_l2l.LearnedOptimizer(
        rule=rules.MomentumMixture(), gradient_accumulation_steps=accumulation
    )
    fit(model(optimizer), batch_size=4)
    # It is saved, and may become another.
    copy = keras_l2l.LearnedOptimizer.from_config(optimizer.get_config())
    for rule in (optimizer.rule, copy.rule):
        assert (rule.num_steps, rule.steps_per_epoch) == (steps, of_epoch)
    copy.set_num_steps(99)
    again = keras_l2l.LearnedOptimizer.from_config(copy.get_config())
    for rule in (copy.rule, again.rule):
        assert (rule.num_steps, rule.steps_per_epoch) == (99, None)


def test_a_loaded_model_may_be_trained_for_longer(tmp_path):
    trained = model(keras_l2l.LearnedOptimizer())
    fit(trained, batch_size=4)
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rule.num_steps == 15
    before = loaded.get_weights()[0]
    fit(loaded, batch_size=4)
    assert loaded.optimizer.rule.num_steps == 30
    assert np.abs(loaded.get_weights()[0] - before).max() > 0.001


@pytest.mark.parametrize("num_steps", [None, 7])
def test_a_preset_has_no_length_of_a_training(num_steps, tmp_path):
    optimizer = keras_l2l.LearnedOptimizer(num_steps=num_steps)
    fit(model(optimizer), batch_size=4)
    assert optimizer.rule.num_steps == (num_steps or 15)
    copy = keras_l2l.LearnedOptimizer.from_config(optimizer.get_config())
    assert copy.rule.num_steps == optimizer.rule.num_steps
    for name, each in (("trained", optimizer), ("copied", copy)):
        each.save_to_preset(tmp_path / name)
        load = keras_l2l.LearnedOptimizer.from_preset
        assert load(tmp_path / name).rule.num_steps is None
        assert load(tmp_path / name, num_steps=9).rule.num_steps == 9


@pytest.mark.parametrize("accumulation, steps", [(None, 15), (3, 5)])
def test_a_second_fit_is_the_end_of_a_longer_training(accumulation, steps):
    optimizer = keras_l2l.LearnedOptimizer(
        gradient_accumulation_steps=accumulation
    )
    trained = model(optimizer)
    fit(trained, batch_size=4)
    assert optimizer.rule.num_steps == steps
    before = trained.get_weights()[0]
    fit(trained, batch_size=4)
    assert optimizer.rule.num_steps == 2 * steps
    # It is over no sooner than it should be.
    assert np.abs(trained.get_weights()[0] - before).max() > 0.001
    assert not optimizer.remarks()
    # Without being told of more steps, those after the end do nothing.
    trained.fit(X, X[:, :1], batch_size=4, epochs=accumulation or 1, verbose=0)
    (remark,) = optimizer.remarks()
    assert f"was planned for {2 * steps} steps, which are over" in remark


@pytest.mark.parametrize(
    "earlier, first, accumulation, expected",
    [
        # Fewer steps than an epoch of this `fit` has.
        (2, 0, None, 2 + 15),
        # A model that was trained before, with a new optimizer.
        (0, 3, None, 6),
        (6, 2, None, 15),
        # What is left over of several batches counts.
        (1, 0, 2, 8),
    ],
)
def test_the_end_of_a_fit_is_that_of_the_training(
    earlier, first, accumulation, expected
):
    optimizer = keras_l2l.LearnedOptimizer(
        gradient_accumulation_steps=accumulation
    )
    trained = model(optimizer)
    for _ in range(earlier):
        trained.train_on_batch(X, X[:, :1])
    fit(trained, batch_size=4, initial_epoch=first)
    assert optimizer.rule.num_steps == optimizer.steps_taken() == expected


def test_a_rule_need_not_be_serializable_to_be_told():
    rule = rules.Partition(
        [(lambda variable: "bias" in variable.path, rules.SGD())],
        rules.MomentumMixture(),
    )
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    fit(model(optimizer), batch_size=4)
    assert optimizer.rule.inner_rules()["default"].num_steps == 15
    optimizer.apply([X[:3, :1], X[0, :1]])
    (remark,) = [r for r in optimizer.remarks() if "are over" in r]
    assert remark.startswith("default: ")


@pytest.mark.parametrize("arguments", [{}, {"run_eagerly": True}])
def test_a_fit_may_tell_what_an_earlier_one_did_not(arguments):
    def trained(told):
        keras.utils.set_random_seed(0)
        found = dense_model(1)
        found.compile(keras_l2l.LearnedOptimizer(), "mse", **arguments)
        found.fit(X, X[:, :1], batch_size=4, verbose=0)
        if told:
            fit(found, batch_size=4, epochs=9)
            assert found.optimizer.rule.num_steps == 30
        else:
            found.fit(X, X[:, :1], batch_size=4, epochs=9, verbose=0)
        weights = found.get_weights()[0]
        found.fit(X, X[:, :1], batch_size=4, verbose=0)
        return np.abs(found.get_weights()[0] - weights).max()

    assert trained(told=True) < 0.01 * trained(told=False)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_goes_on_is_no_other_training(epochs):
    weights = []
    for parts in ([(0, 4)], [(0, epochs), (epochs, 4)]):
        keras.utils.set_random_seed(0)
        trained = model(keras_l2l.LearnedOptimizer())
        for first, last in parts:

            class Stop(keras.callbacks.Callback):
                def on_epoch_end(self, epoch, logs=None, last=last):
                    self.model.stop_training = epoch + 1 == last

            trained.stop_training = False
            trained.fit(
                X,
                X[:, :1],
                batch_size=4,
                epochs=4,
                initial_epoch=first,
                shuffle=False,
                callbacks=[keras_l2l.TrainingLength(), Stop()],
                verbose=0,
            )
        assert trained.optimizer.rule.num_steps == 12
        weights.append(trained.get_weights()[0])
    np.testing.assert_array_equal(*weights)


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
    with pytest.raises(ValueError, match="num_steps=9 and a .* num_steps=3"):
        keras_l2l.LearnedOptimizer(rule=rules.Celo(num_steps=3), num_steps=9)
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.CeloAdam())
    with pytest.raises(ValueError, match="num_steps=None.*TrainingLength"):
        model(optimizer).fit(X, X[:, :1], verbose=0)
    with pytest.raises(ValueError, match="or contain a LearnedOptimizer"):
        fit(model("sgd"))

    def batches():
        while True:
            yield X, X[:, :1]

    optimizer = keras_l2l.LearnedOptimizer(rule=rules.CeloAdam())
    with pytest.raises(ValueError, match="Pass steps_per_epoch"):
        fit(model(optimizer), batches(), None, shuffle=False)
    fit(model(optimizer), batches(), None, shuffle=False, steps_per_epoch=2)
    assert optimizer.rule.num_steps == 10
