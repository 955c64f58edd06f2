import logging
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l import rules
from keras_l2l.optimizer import first_step


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(first_step, "_PATIENCE", 0.2)
    caplog.set_level(logging.WARNING, "keras_l2l.first_step")
    return lambda: [
        r.getMessage()
        for r in caplog.records
        if r.name == "keras_l2l.first_step"
    ]


def train(seconds):
    """Takes two steps, the first of which takes some seconds to trace."""
    optimizer = keras_l2l.LearnedOptimizer(rule=rules.SGD())
    variables = [keras.Variable(np.ones(n)) for n in (2, 3, 3)]
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step():
        optimizer.apply([v + 0 for v in variables])
        time.sleep(seconds)

    step()
    step()
    return optimizer


def test_a_long_compilation_says_so_once(told):
    train(1.0)
    (message,) = told()
    assert "being compiled, for 3 tensors of 2 shapes" in message


def test_a_short_one_does_not(told, monkeypatch):
    timers = []

    class Timer:
        def __init__(self, seconds, function):
            timers.append(function)

        def start(self):
            pass

    monkeypatch.setattr(threading, "Timer", Timer)
    # Kept, as its user would: it is asked how far it is.
    optimizer = train(0.0)
    (tell,) = timers
    tell()
    assert optimizer.iterations == 2 and told() == []
