"""Meta-parameters and state are float32, whatever Keras' default dtype is.

Without TensorFlow, for backends_test.
"""

import keras
import numpy as np
import pytest
from keras import ops
from rule_reflection import every_rule
from rule_reflection import make

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules

# What JAX says of float64 in the model.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype")


@keras.saving.register_keras_serializable(package="tests")
class Own(rules.CoordinatewiseRule):
    """A user's rule, which makes everything in Keras' default dtype."""

    def init_meta_params(self, seed):
        return {"w": keras.initializers.GlorotUniform(seed)((2, 2))}

    def init_coordinate_state(self, n):
        return {"m": ops.zeros((n,), keras.config.floatx())}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        m = state["m"] + gradient
        return -ops.mean(meta_params["w"] ** 2) * m, {"m": m}


@pytest.fixture
def default_dtype():
    before = keras.config.floatx()
    yield keras.config.set_floatx
    keras.config.set_floatx(before)


def built(rule):
    """Returns an optimizer and its variables, of the default dtype."""
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    variables = [
        keras.Variable(np.zeros(shape), dtype=keras.config.floatx(), name=name)
        for name, shape in (("kernel", (3, 2)), ("bias", (2,)))
    ]
    optimizer.build(variables)
    dtypes = [v.dtype for v in [*optimizer._meta_params, *optimizer._state]]
    assert set(dtypes) == {"float32"}
    return optimizer, variables


@pytest.mark.parametrize("floatx", ["float64", "float16"])
@every_rule
def test_a_fresh_rule(rule, floatx, default_dtype):
    default_dtype(floatx)
    optimizer, _ = built(make(rule))
    built(keras_l2l.LearnedOptimizer.from_config(optimizer.get_config()).rule)


@pytest.mark.parametrize("floatx", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "rule",
    [
        None,
        Own(),
        rules.CoordinatewiseLSTM((4,)),
        presets.guarded("l2l_digits_mlp"),
    ],
    ids=["default", "own", "lstm", "guarded"],
)
def test_a_step(rule, floatx, default_dtype):
    default_dtype(floatx)
    optimizer, variables = built(rule)
    optimizer.apply([ops.ones(v.shape) for v in variables], variables)
    for variable in variables:
        assert np.any(ops.convert_to_numpy(variable) != 0)
