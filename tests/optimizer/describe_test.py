import keras
import pytest

import keras_l2l
from keras_l2l import rules

schedule = keras.optimizers.schedules.CosineDecay(1.0, 100)


@pytest.mark.parametrize(
    "make, expected",
    [
        (
            lambda: keras_l2l.LearnedOptimizer(rule="l2l_digits_mlp"),
            "preset=l2l_digits_mlp, rule=CoordinatewiseLSTM, horizon=100, "
            "learning_rate=1",
        ),
        (
            lambda: keras_l2l.LearnedOptimizer.from_preset(
                "l2l_digits_mlp", learning_rate=0.25, horizon=7
            ),
            "preset=l2l_digits_mlp, rule=CoordinatewiseLSTM, horizon=7, "
            "learning_rate=0.25",
        ),
        (
            lambda: keras_l2l.LearnedOptimizer(
                schedule, rules.Guarded(rules.SGD())
            ),
            "rule=Guarded(SGD, Adam), learning_rate=CosineDecay",
        ),
    ],
    ids=["rule", "from_preset", "no preset"],
)
def test_repr(make, expected):
    assert repr(make()) == f"<LearnedOptimizer {expected}>"


def test_a_copy_knows_its_preset():
    default = keras_l2l.LearnedOptimizer()
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(default))
    assert repr(copy) == repr(default)
    assert "preset=l2l_" in repr(copy)
    by_name = keras.optimizers.get("keras_l2l>LearnedOptimizer")
    assert by_name.preset == keras_l2l.LearnedOptimizer().preset is not None


def test_a_preset_of_ones_own_is_named_by_its_folder(tmp_path):
    keras_l2l.LearnedOptimizer().save_to_preset(tmp_path / "mine")
    loaded = keras_l2l.LearnedOptimizer.from_preset(tmp_path / "mine")
    assert loaded.preset == "mine"
