import warnings

import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules

SMALL = "must be about 1.0"
schedules = keras.optimizers.schedules


@pytest.mark.parametrize(
    "rate",
    [
        1e-3,
        np.float64(0.01),
        schedules.CosineDecay(1e-3, 1000),
        schedules.CosineDecay(0.0, 900, warmup_target=1e-3, warmup_steps=100),
        schedules.PiecewiseConstantDecay([100], [0.01, 0.001]),
    ],
    ids=lambda rate: type(rate).__name__,
)
def test_rates_of_other_optimizers_are_warned_of(rate):
    with pytest.warns(UserWarning, match=f"{SMALL}.*fine-tuning, begin"):
        keras_l2l.LearnedOptimizer(rate)


class Short(schedules.LearningRateSchedule):
    """A schedule of ten steps."""

    def __call__(self, step):
        return ([0.001] * 10)[int(step)]

    def get_config(self):
        return {}


@pytest.mark.parametrize(
    "rate",
    [
        1.0,
        0.1,
        0.0,
        schedules.CosineDecay(1.0, 1000),
        schedules.CosineDecay(0.0, 900, warmup_target=1.0, warmup_steps=100),
        Short(),
        lambda: 1e-3,
    ],
    ids=lambda rate: type(rate).__name__,
)
def test_other_rates_are_not(rate):
    keras_l2l.LearnedOptimizer(rate)


def test_a_formula_may_have_a_small_rate():
    # Nothing in it was meta-trained.
    class Plain(rules.CoordinatewiseRule):
        def init_meta_params(self, seed):
            return {}

    for rule in (Plain(), rules.SGD(), rules.Adam(1.0)):
        keras_l2l.LearnedOptimizer(1e-3, rule, weight_decay=5.0)


def fit(callback, epochs=1):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras_l2l.LearnedOptimizer(), "mse")
    x = np.ones((4, 3), "float32")
    model.fit(x, x[:, :1], epochs=epochs, callbacks=[callback], verbose=0)


def test_a_scheduler_is_warned_of_at_the_first_step_alone():
    scheduler = keras.callbacks.LearningRateScheduler
    with pytest.warns(UserWarning, match=SMALL):
        fit(scheduler(lambda epoch, rate: 0.001))
    fit(scheduler(lambda epoch, rate: 1e-3**epoch), epochs=2)


def test_a_copy_warns_no_more():
    # As Python shows them by default.
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        optimizer = keras_l2l.LearnedOptimizer(0.00123)
        type(optimizer).from_config(optimizer.get_config())
        optimizer.learning_rate = 0.00123
    assert sum(SMALL in str(warning.message) for warning in shown) == 1


@pytest.mark.parametrize("decay, rate", [(0.004, 1.0), (0.1, 0.1)])
def test_weight_decay_of_adamw_is_warned_of(decay, rate):
    with pytest.warns(UserWarning, match="AdamW's 0.004 .*4e-6 here"):
        keras_l2l.LearnedOptimizer(rate, weight_decay=decay)


@pytest.mark.parametrize(
    "wrong",
    ["l2l_networks", rules.Adam(), presets.load_preset("l2l_quadratics")],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_rule_in_place_of_the_learning_rate(wrong):
    with pytest.raises(ValueError, match=r"from_preset\(.*rule=") as raised:
        keras_l2l.LearnedOptimizer(wrong)
    assert len(str(raised.value)) < 500


def test_preset_is_no_argument():
    with pytest.raises(ValueError, match=r"preset='l2l_networks'.*rule="):
        keras_l2l.LearnedOptimizer(preset="l2l_networks")
