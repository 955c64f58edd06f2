"""What PyTorch runs as one program; backends_test starts it there."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_l2l
from keras_l2l import rules
from keras_l2l.optimizer import programs
from keras_l2l.rules import base
from keras_l2l.utils import tracing

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="of PyTorch"
)


@pytest.fixture
def traced(monkeypatch):
    """The functions that are traced from here on."""
    monkeypatch.setattr(programs, "_programs", type(programs._programs)())
    found, trace = [], tracing.traced

    def noted(function, args, jit_compile):
        found.append(function)
        return trace(function, args, jit_compile)

    monkeypatch.setattr(tracing, "traced", noted)
    return found


def run(function, *args):
    shared = programs.Programs("of a test", None)
    return shared.run(function, *args, jit_compile=False)


def test_a_function_is_called_once(traced):
    calls = []

    def function(x, others):
        calls.append(x)
        others["variable"].assign(others["variable"].value + x)
        return {"twice": x * 2, "nothing": None, "constant": ops.ones((2,))}

    variable = keras.Variable(np.array([3.0, 4.0], "float32"))
    tensor = variable.value
    for x in (1.0, 2.0):
        result = run(
            function,
            ops.full((2,), x),
            {"variable": variable, "nothing": None},
        )
        np.testing.assert_array_equal(result["twice"], [2 * x, 2 * x])
        np.testing.assert_array_equal(result["constant"], [1, 1])
        assert result["nothing"] is None
    np.testing.assert_array_equal(tensor.detach(), [6, 7])
    assert len(calls) == len(traced) == 1
    # Another shape, another program.
    run(function, ops.ones(()), {"variable": variable, "nothing": None})
    assert len(calls) == len(traced) == 2


def test_what_has_no_arguments_is_computed_each_time():
    first, second = (run(lambda: ops.zeros((2,))) for _ in range(2))
    first += 1
    np.testing.assert_array_equal(second, [0, 0])


def test_what_looks_at_values_runs_as_it_is():
    def function(x):
        return ops.cond(ops.sum(x) > 0, lambda: x + 1, lambda: x - 1)

    for x in (1.0, -1.0, 2.0):
        result = run(function, ops.full((2,), x))
        np.testing.assert_array_equal(result, np.full(2, x + np.sign(x)))


@keras.saving.register_keras_serializable(package="tests")
class Wrong(base.UpdateRule):
    def init_meta_params(self, seed):
        return {}

    def init_state(self, shapes):
        return []

    def step(self, meta_params, inputs, state):
        raise RuntimeError("a fault of this rule")


def test_the_error_of_a_rule_is_told():
    optimizer = keras_l2l.LearnedOptimizer(rule=Wrong())
    variable = keras.Variable(np.ones(3, "float32"))
    with pytest.raises(RuntimeError, match="a fault of this rule"):
        optimizer.apply([ops.ones((3,))], [variable])


@pytest.mark.parametrize("rule", [None, rules.Adam(), "l2l_fashion_mnist_mlp"])
def test_the_next_model_of_the_same_shapes_traces_nothing(rule, traced):
    counts = []
    for _ in range(2):
        optimizer = keras_l2l.LearnedOptimizer(rule=rule)
        shapes = [(300, 200), (200,), (3, 4)]
        variables = [keras.Variable(np.ones(s, "float32")) for s in shapes]
        for _ in range(2):
            optimizer.apply([ops.ones(s) for s in shapes], variables)
        counts.append(len(traced))
    assert 0 < counts[0] == counts[1]
