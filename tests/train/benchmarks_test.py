"""Benchmarks on sizes that take no time; their figures mean nothing here."""

import os
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import rules
from keras_l2l.optimizer import chunks
from keras_l2l.optimizer.execution import execution_of
from keras_l2l.utils import nests
from train.benchmarks import backends
from train.benchmarks import first_step
from train.benchmarks import meta_training
from train.benchmarks import other_frameworks
from train.benchmarks import timing
from train.benchmarks import update


def test_other_frameworks_do_the_same_work():
    pytest.importorskip("jax")
    rule = rules.CoordinatewiseLSTM()
    meta_params = rule.init_meta_params(0)
    gradient = tf.random.stateless_normal([50], [0, 0])
    state = rule.init_coordinate_state(50)
    theirs = [
        meta_params[f"lstm_{layer}"][name].numpy()
        for layer in (0, 1)
        for name in ("kernel", "recurrent_kernel", "bias")
    ]
    theirs += [
        meta_params["output"]["kernel"].numpy()[:, 0],
        meta_params["output"]["bias"].numpy()[0],
    ]
    their_state = [np.zeros((50, 20), "float32") for _ in range(4)]
    for i in range(2):
        updates, state = rule.coordinate_step(meta_params, gradient, state, i)
        received, their_state = other_frameworks._jax_step(
            theirs, gradient.numpy(), their_state
        )
        np.testing.assert_allclose(received, updates, rtol=0, atol=1e-6)
    ours = [
        state[layer][name]
        for layer in ("lstm_0", "lstm_1")
        for name in ("hidden", "cell")
    ]
    for a, b in zip(their_state, ours, strict=True):
        np.testing.assert_allclose(a.T, b, rtol=0, atol=1e-6)


def test_every_framework_is_in_the_table(monkeypatch):
    installed = ["keras_l2l", "keras_l2l, not in chunks"]
    for name, module in {"jax jit": "jax", "torch eager": "torch"}.items():
        try:
            __import__(module)
        except ImportError:
            continue
        installed.append(name)
    # Compiling takes a minute.
    monkeypatch.delitem(other_frameworks.UPDATES, "torch.compile")
    before = chunks.CHUNK
    rows = update.frameworks(1, n=20, size=8)
    assert chunks.CHUNK == before
    assert [row["who"] for row in rows] == ["matrix products alone", *installed]
    assert all(row["ns"] > 0 for row in rows)
    shares = {row["who"]: row["share_of_matrix_rate"] for row in rows}
    assert shares["matrix products alone"] == 1
    assert shares["keras_l2l"] == pytest.approx(rows[0]["ns"] / rows[1]["ns"])


def test_the_default_is_beside_adam_on_a_backend(monkeypatch):
    monkeypatch.setattr(backends, "MODELS", {"small": [(3, 2), (2,)]})
    (row,) = backends.measure(1)
    assert (row["backend"], row["model"]) == ("tensorflow", "small")
    ratio = row["default_ms"] / row["adam_ms"]
    assert row["times_adam"] == pytest.approx(ratio)
    assert row["default_first_s"] > row["default_ms"] / 1e3


def test_every_rule_is_beside_adam(monkeypatch):
    monkeypatch.setattr(update, "MODELS", {"small": [(3, 2), (2,)]})
    rows = {row["rule"]: row for row in update.rules(1)}
    assert [*rows] == ["adam", *update.RULES]
    assert all(row["update_ms"] > 0 for row in rows.values())
    assert rows["adam"]["times_adam"] == 1
    # Besides: the learning rate.
    assert rows["adam"]["floats_per_parameter"] == (2 * 8 + 1) / 8
    for name, make in update.RULES.items():
        run = execution_of(make(), None)
        state = nests.count_params(run.state_spec([(3, 2), (2,)]))
        assert rows[name]["floats_per_parameter"] == (state + 1) / 8


@pytest.mark.parametrize("who", ["keras_l2l", "jax", "jax, checkpointed"])
def test_meta_training(who):
    if "jax" in who:
        pytest.importorskip("jax")
    row = meta_training._first_step(who, 64, 1, 4, 2)
    assert row["first_s"] > 0 and row["peak_mb"] > 0


def test_turns_are_taken(monkeypatch):
    log = []

    def seconds(run, calls=1):
        run()
        log.append(calls)
        return 0.02

    monkeypatch.setattr(timing, "seconds", seconds)
    work = {name: lambda name=name: log.append(name) for name in "ab"}
    assert timing.alternate(work, 2) == {"a": 0.02, "b": 0.02}
    # To see how fast it is; then each turn has a call that is not timed, and
    # as many as make 0.05 seconds.
    turn = ["a", "a", 3, "b", "b", 3]
    assert log == ["a", 1, "b", 1, *turn, *turn]


def test_seconds_are_those_of_a_call():
    calls = []

    def work():
        calls.append(0)
        time.sleep(0.01)

    assert timing.seconds(work, 3) >= 0.01
    assert len(calls) == 3


def test_processes_are_fresh():
    assert timing.in_fresh_process(os.getpid) != os.getpid()


def test_peak_of_memory():
    before = timing.reset_peak_mb()
    held = np.ones(64 * 2**20, "uint8")
    del held
    assert 60 < timing.peak_mb() - before < 100
    assert timing.reset_peak_mb() < before + 30


def test_first_steps_are_of_a_model_and_the_next():
    first, second = first_step._first_steps("mlp", "learned", 1)
    assert 0 < second < first
    sizes = {"mlp": 4, "conv": 26, "deep": 252}
    for network, make in first_step.NETWORKS.items():
        model = keras.Sequential([*make(), keras.layers.Dense(10)])
        assert len(model.trainable_variables) == sizes[network]
