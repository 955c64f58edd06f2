"""A pytest plugin: what is traced in a test."""

import pytest

from keras_l2l.optimizer import programs
from keras_l2l.utils import tracing


@pytest.fixture
def traced(monkeypatch):
    """Whether XLA compiles it, of each program that is traced from here on."""
    monkeypatch.setattr(programs, "_programs", type(programs._programs)())
    found, trace = [], tracing.traced

    def counted(function, args, jit_compile):
        found.append(jit_compile)
        return trace(function, args, jit_compile)

    monkeypatch.setattr(tracing, "traced", counted)
    return found
