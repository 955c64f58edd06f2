import pytest
from keras import ops

from keras_l2l import rules
from keras_l2l.rules import specs


class _Counting(rules.CoordinatewiseRule):
    calls = 0

    def __init__(self, units):
        self.units = units

    def init_meta_params(self, seed):
        type(self).calls += 1
        return {"kernel": ops.zeros((self.units, 3)), "bias": ops.ones(())}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(specs, "_specs", type(specs._specs)())
    monkeypatch.setattr(_Counting, "calls", 0)


def test_equal_rules_share_a_spec():
    first, second = (
        specs.of(_Counting(2), "init_meta_params", 0) for _ in range(2)
    )
    assert first is second and _Counting.calls == 1
    assert first["kernel"].shape == (2, 3) and first["bias"].shape == ()
    other = specs.of(_Counting(5), "init_meta_params", 0)
    assert other["kernel"].shape == (5, 3)


def test_a_rule_of_more_than_plain_data_shares_nothing():
    rule = _Counting(2)
    rule.function = len
    assert specs.of(rule, "init_meta_params", 0)["kernel"].shape == (2, 3)
    rule.units = 4
    assert specs.of(rule, "init_meta_params", 0)["kernel"].shape == (4, 3)
    assert not specs._specs


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(specs, "_KEPT", 2)
    for units in (1, 2, 3):
        specs.of(_Counting(units), "init_meta_params", 0)
    assert len(specs._specs) == 2
    specs.of(_Counting(3), "init_meta_params", 0)
    assert _Counting.calls == 3


def test_nothing_is_allocated():
    spec = specs.of(_Counting(10**15), "init_meta_params", 0)
    assert spec["kernel"].shape == (10**15, 3)
