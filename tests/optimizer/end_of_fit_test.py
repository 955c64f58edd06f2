import warnings

import numpy as np
import pytest
from conftest import dense_model

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules

X, Y = np.ones((22, 3)), np.ones((22, 1))


def trained(optimizer, epochs=1, **arguments):
    """Returns a model after 22 steps of each epoch."""
    model = dense_model(1)
    model.compile(optimizer, "mse", **arguments)
    model.fit(X, Y, batch_size=1, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}], ids=str)
def test_far_beyond_the_horizon_it_warns_once(arguments):
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.SGD(), horizon=2)
    with pytest.warns(UserWarning, match="first 2 steps.* taken 22:"):
        model = trained(optimizer, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y, batch_size=1, verbose=0)


def test_steps_add_up_over_calls_of_fit():
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.SGD(), horizon=3)
    # Not far beyond it: without a warning.
    model = trained(optimizer)
    with pytest.warns(UserWarning, match="first 3 steps.* taken 44:"):
        model.fit(X, Y, batch_size=1, verbose=0)


def test_a_preset_knows_its_horizon(tmp_path):
    rule, folder = rules.SGD(), tmp_path / "preset"
    presets.save_preset(rule, rule.init_meta_params(0), folder, 6)
    assert presets.load_preset(folder).horizon == 6
    for optimizer in (
        keras_l2l.LearnedOptimizer.from_preset(folder),
        keras_l2l.LearnedOptimizer(rule=folder),
    ):
        assert optimizer.horizon == 6
        again = keras_l2l.LearnedOptimizer.from_config(optimizer.get_config())
        assert again.horizon == 6
    optimizer.save_to_preset(tmp_path / "saved")
    assert presets.load_preset(tmp_path / "saved").horizon == 6
    # The user knows better.
    optimizer = keras_l2l.LearnedOptimizer.from_preset(folder, horizon=500)
    assert optimizer.horizon == 500


def test_every_shipped_preset_has_its_horizon():
    for name in keras_l2l.LearnedOptimizer.presets:
        assert keras_l2l.LearnedOptimizer(rule=name).horizon >= 100


@pytest.mark.parametrize("horizon", [0, 1.5, "100", True])
def test_bad_horizons(horizon, tmp_path):
    with pytest.raises(ValueError, match="`horizon` must be an int"):
        keras_l2l.LearnedOptimizer(horizon=horizon)
    with pytest.raises(ValueError, match="`horizon` must be an int"):
        keras_l2l.LearnedOptimizer.from_preset(
            "l2l_quadratics", horizon=horizon
        )


def test_a_preset_with_a_forged_horizon_is_refused(tmp_path):
    rule = rules.SGD()
    presets.save_preset(rule, rule.init_meta_params(0), tmp_path / "p", 7)
    path = tmp_path / "p" / "metadata.json"
    path.write_text(path.read_text().replace('"horizon": 7', '"horizon": -7'))
    with pytest.raises(presets.PresetError, match="`horizon` must be"):
        presets.load_preset(tmp_path / "p")


def test_skipped_steps_of_replicas_are_counted_once(strategy):
    y = Y.copy()
    y[3] = np.nan
    with strategy.scope():
        model = dense_model(1)
        model.compile(keras_l2l.LearnedOptimizer(rule=rules.SGD()), "mse")
    # Eleven steps of two replicas.
    model.fit(X, y, batch_size=2, shuffle=False, verbose=0)
    (remark,) = model.optimizer.remarks()
    assert "so far: 1. " in remark
    assert model.optimizer.iterations.numpy() == 11
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize("told", [False, True])
def test_the_default_says_once_that_it_does_not_know_the_length(told, caplog):
    # Where it says something, of two parts.
    units = [1] if told else [200, 200]
    model = dense_model(*units)
    model.compile(keras_l2l.LearnedOptimizer(), "mse")
    callbacks = [keras_l2l.TrainingLength()] if told else []
    with caplog.at_level("WARNING"):
        for _ in range(2):
            model.fit(X, model(X), verbose=0, callbacks=callbacks)
    found = [m for m in caplog.messages if "TrainingLength()" in m]
    assert len(found) == (0 if told else 1)
