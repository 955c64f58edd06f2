"""Programs are shared where they are the same, and hold nothing."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LSTM
from reflection import every_rule
from reflection import make

import keras_l2l
from keras_l2l import rules
from keras_l2l.optimizer import programs
from keras_l2l.rules import blockwise
from keras_l2l.utils import backends

pytest_plugins = ["counted_traces"]


def train(optimizer, units=5, **arguments):
    """Trains a model on a batch, and returns it."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(units, activation="tanh"),
            keras.layers.Dense(units),
            keras.layers.Dense(units),
        ]
    )
    model.compile(optimizer, "mse", **arguments)
    model.train_on_batch(np.ones((4, 6)), np.ones((4, units)))
    return model


@pytest.mark.parametrize("rule", [None, "l2l_networks", LSTM])
@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
def test_the_next_model_of_the_same_shapes_traces_nothing(
    rule, state_dtype, traced
):
    if rule is not LSTM and state_dtype == "bfloat16":
        pytest.skip("small changes add up in its state")

    def optimizer():
        return keras_l2l.LearnedOptimizer(rule=rule, state_dtype=state_dtype)

    first = train(optimizer())
    # Of `l2l_networks` one for each shape, of the others one for all.
    number = len(traced)
    several = 3 if rule == "l2l_networks" else 1
    assert number == several + (state_dtype == "bfloat16")
    executions = [{}, {"run_eagerly": True}]
    # Which is long in compiling.
    if rule is LSTM and state_dtype == "float32":
        executions.append({"jit_compile": True})
    for arguments in executions:
        model = train(optimizer(), **arguments)
        assert len(traced) == number
        # Each has a state of its own.
        assert int(model.optimizer.iterations) == 1
        for a, b in zip(
            first.optimizer._state, model.optimizer._state, strict=True
        ):
            assert a is not b and np.any(a) == np.any(b)
    train(optimizer(), units=30)
    assert len(traced) > number


def test_replicas_share_programs(strategy, traced):
    with strategy.scope():
        train(keras_l2l.LearnedOptimizer(rule=LSTM))
        assert len(traced) == 1
        train(keras_l2l.LearnedOptimizer(rule=LSTM))
    train(keras_l2l.LearnedOptimizer(rule=LSTM))
    assert len(traced) == 1


@pytest.mark.parametrize("on_cpus", [True, False])
def test_replicas_on_cpus_do_not_wait_for_xla(
    on_cpus, strategy, traced, monkeypatch
):
    if not on_cpus:
        # As replicas on other devices.
        monkeypatch.setattr(backends, "has_cpu_replicas", lambda: False)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        replicas = train(keras_l2l.LearnedOptimizer())
    assert traced == [not on_cpus]
    keras.utils.set_random_seed(0)
    alone = train(keras_l2l.LearnedOptimizer())
    assert traced == ([False, True] if on_cpus else [True])
    for a, b in zip(replicas.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "rule, arguments",
    [(None, {}), (LSTM, {"run_eagerly": True})],
    ids=["default", "lstm"],
)
def test_nothing_holds_a_model_that_is_dropped(rule, arguments):
    model = train(keras_l2l.LearnedOptimizer(rule=rule), **arguments)
    held = [
        weakref.ref(o)
        for o in (
            model,
            model.optimizer,
            # What the memory of a variable lives for.
            *(v.value.handle for v in model.variables),
            *(v.value.handle for v in model.optimizer.variables),
        )
    ]
    del model
    keras.utils.clear_session()
    gc.collect()
    assert not [ref for ref in held if ref() is not None]


def test_xla_compiles_what_is_large(traced):
    optimizer = keras_l2l.LearnedOptimizer(rule="l2l_networks")
    shapes = [(256, 128), (3, 5), *[(8,)] * 40]
    variables = [keras.Variable(np.ones(shape)) for shape in shapes]
    optimizer.build(variables)
    optimizer.apply([tf.ones(shape) for shape in shapes])
    # A large one, a small one, and many small ones.
    assert traced == [True, False, True]


@every_rule
def test_every_rule_shares_its_programs(rule):
    if issubclass(rule, rules.Partition):
        pytest.skip("a function selects its variables")
    shapes = [(), (3,), (2, 3)]
    variables = [
        keras.Variable(np.zeros(s), name=f"param_{i}")
        for i, s in enumerate(shapes)
    ]
    keys = [
        programs.Programs("step", make(rule).for_variables(variables))._key
        for _ in range(2)
    ]
    assert keys[0] is not None and keys[0] == keys[1]
    assert hash(keys[0]) == hash(keys[1])


class _Mine(rules.SGD):
    """A rule with anything in an attribute."""

    def __init__(self, anything):
        super().__init__(1.0)
        self.anything = anything


def test_other_rules_have_other_programs(traced):
    things = [1, 1.0, True, "1", None, [1], (1,), {"a": 1}, np.ones(1)]
    things += [np.zeros(1), np.ones(2), rules.SGD(1.0), rules.SGD(2.0)]
    keys = [programs.Programs("", _Mine(thing))._key for thing in things]
    assert len(set(keys)) == len(keys)
    rule = _Mine(1)
    before = programs.Programs("", rule)._key
    rule.anything = 2
    assert programs.Programs("", rule)._key != before


@pytest.mark.parametrize(
    "thing",
    [lambda: 0, object(), tf.ones(1)],
    ids=lambda value: type(value).__name__,
)
def test_a_rule_of_more_than_plain_data_shares_nothing(thing, traced):
    for number in (1, 2):
        variable = keras.Variable(np.ones(3))
        optimizer = keras_l2l.LearnedOptimizer(rule=_Mine(thing))
        optimizer.build([variable])
        optimizer.apply([tf.ones(3)])
        np.testing.assert_array_equal(variable, np.zeros(3))
        assert len(traced) == number


def test_programs_that_are_not_used_are_dropped(traced, monkeypatch):
    monkeypatch.setattr(programs, "_KEPT", 2)
    shared = programs.Programs("", rules.SGD())

    def run(n):
        return shared.run(lambda x: 2 * x, tf.ones(n), jit_compile=False)

    for n in (1, 2, 1, 3, 1):
        assert run(n).shape == (n,)
    assert len(traced) == 3
    run(2)
    assert len(traced) == 4
    assert len(programs._programs) == 2


def test_large_tensors_share_the_program_of_their_samples(traced, monkeypatch):
    monkeypatch.setattr(blockwise, "_JOINED", 0)
    shapes = [(256, 128), (256, 256), (64, 512)]
    variables = [keras.Variable(np.ones(shape)) for shape in shapes]
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.MomentumMixture())
    optimizer.build(variables)
    optimizer.apply([tf.ones(shape) for shape in shapes])
    # And of their elements one for each size.
    assert traced == [True] * 3
