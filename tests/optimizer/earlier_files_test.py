"""What earlier versions have saved loads, and goes on with the same numbers.

The files are those that `tests/data/version_0_1_0/make.py` has written.
"""

import json
import pathlib

import keras
import numpy as np
import pytest
from conftest import assert_same

import keras_l2l
from keras_l2l import presets

# Earlier versions of Keras do not load what later ones have saved.

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "version_0_1_0"
LOSSES = json.loads((FOLDER / "losses.json").read_text())
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X[:, :1] ** 2


def losses_of(model):
    history = model.fit(X, Y, epochs=3, batch_size=16, verbose=0)
    return history.history["loss"]


@pytest.mark.parametrize("name", LOSSES)
def test_a_model_goes_on(name):
    model = keras.models.load_model(FOLDER / f"{name}.keras")
    assert type(model.optimizer) is keras_l2l.LearnedOptimizer
    np.testing.assert_allclose(losses_of(model), LOSSES[name], rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_preset_holds_what_the_model_was_trained_with(name):
    rule, meta_params, _ = presets.load_preset(FOLDER / name)
    trained = keras.models.load_model(FOLDER / f"{name}.keras").optimizer
    assert type(rule) is type(trained.rule)
    assert_same(meta_params, trained.meta_params)
