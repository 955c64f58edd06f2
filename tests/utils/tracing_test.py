"""What PyTorch runs as one program; backends_test starts it there."""

import concurrent.futures

import keras
import numpy as np
import pytest
from keras import ops

import keras_l2l
from keras_l2l import rules
from keras_l2l.optimizer import programs
from keras_l2l.rules import base

pytest_plugins = ["counted_traces"]
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="of PyTorch"
)


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


@pytest.mark.parametrize("length", [2, 2**17])
def test_a_constant_that_is_returned_may_be_changed(length, traced):
    def function(x):
        constant = ops.convert_to_tensor([3.0])
        return x, ops.broadcast_to(constant, (length,)), 2 * constant

    for _ in range(2):
        _, spread, twice = run(function, ops.ones(()))
        assert float(spread[0]) == float(spread[-1]) == 3
        np.testing.assert_array_equal(twice, [6])
        spread += 1
        twice += 1
    assert len(traced) == 1


def test_a_constant_may_be_changed_within_a_program(traced):
    def function(x):
        constant = ops.zeros((2,))
        constant += x
        return constant

    for _ in range(2):
        np.testing.assert_array_equal(run(function, ops.ones((2,))), [1, 1])
    assert len(traced) == 1


def test_random_numbers_are_no_constants(traced):
    import torch

    def function(x):
        return x + torch.rand(2)

    first, second = (run(function, ops.ones((2,))) for _ in range(2))
    assert np.all(np.asarray(first) != np.asarray(second))
    assert len(traced) == 1


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


def apply(rule, gradients, shape=(2,)):
    """Returns the variables after some steps, each of a list of gradients."""
    optimizer = keras_l2l.LearnedOptimizer(rule=rule)
    variables = [keras.Variable(np.zeros(shape)) for _ in gradients[0]]
    for of_step in gradients:
        optimizer.apply(of_step, variables)
    return [ops.convert_to_numpy(v) for v in variables]


def test_the_same_tensor_twice_is_two_arguments(traced):
    once, other = ops.ones((2,)), ops.full((2,), 3.0)
    for _ in range(2):
        first, second = apply(rules.SGD(1.0), [[once, once], [once, other]])
        np.testing.assert_array_equal(first, [-2, -2])
        np.testing.assert_array_equal(second, [-4, -4])


def test_the_layout_of_tensors_does_not_matter(traced):
    gradient = ops.convert_to_tensor(np.arange(6.0, dtype="float32") - 2.5)
    square = ops.reshape(gradient, (2, 3))
    mixed = ops.transpose(ops.reshape(gradient, (3, 2)))
    for gradients in ([square, mixed], [mixed, square]):
        found = apply(None, [[g] for g in gradients], (2, 3))[0]
        expected = apply(
            None, [[ops.copy(g.contiguous())] for g in gradients], (2, 3)
        )[0]
        np.testing.assert_array_equal(found, expected)


@keras.saving.register_keras_serializable(package="tests")
class Delayed(base.UpdateRule):
    """Moves against the gradient of two steps before."""

    def init_meta_params(self, seed):
        return {}

    def init_state(self, shapes):
        zeros = [ops.zeros(shape) for shape in shapes]
        return {"now": zeros, "before": [ops.copy(z) for z in zeros]}

    def step(self, meta_params, inputs, state):
        # What is added in place is the rule's own, and new in each step.
        total = ops.convert_to_tensor(0.0)
        total += 1.0
        return [-total * g for g in state["before"]], {
            "now": list(inputs.gradients),
            "before": state["now"],
        }


@keras.saving.register_keras_serializable(package="tests")
class Climbs(Delayed):
    """The same, with a part of the old state as its update."""

    def step(self, meta_params, inputs, state):
        _, after = super().step(meta_params, inputs, state)
        return state["before"], after


@keras.saving.register_keras_serializable(package="tests")
class OfItsOwn(Delayed):
    """The same, with an attribute that is not plain data."""

    def __init__(self):
        self.function = lambda: None


@pytest.mark.parametrize(
    ("rule", "expected"), [(Delayed, -7), (Climbs, 7), (OfItsOwn, -7)]
)
def test_a_state_may_become_another(rule, expected, traced):
    gradients = [[ops.full((2,), float(i))] for i in (1, 2, 4, 8, 16)]
    found = apply(rule(), gradients)[0]
    np.testing.assert_array_equal(found, [expected, expected])
    # One program for all steps, or none.
    assert len(traced) <= 3


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.cast(ops.shape(ops.nonzero(x > 0)[0])[0], "float32"),
        lambda x: ops.full((), float(np.mean(ops.convert_to_numpy(x)))),
        lambda x: x + 1 if x[0] > 0 else x - 1,
    ],
    ids=["nonzero", "numpy", "branch"],
)
def test_values_are_never_constants(function, traced):
    for x in ([1.0, 1.0], [-1.0, 2.0], [3.0, -3.0]):
        tensor = ops.convert_to_tensor(x)
        np.testing.assert_array_equal(run(function, tensor), function(tensor))


def test_the_precision_of_autocast_stays_there(traced):
    import torch

    def product(x):
        return ops.matmul(x, x)

    x = ops.full((2, 2), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(run(product, x)[0, 0]) == 2.0
    assert float(run(product, x)[0, 0]) > 2.003


def test_threads_trace_one_after_the_other(traced):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda n: apply(rules.SGD(1.0), [[ops.ones((n,))]], (n,))[0],
                range(1, 5),
            )
        )
    assert [len(v) for v in found] == [1, 2, 3, 4]
    assert all((v == -1).all() for v in found)
