"""Choosing meta-parameters, on networks of no suite's task."""

import forked
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import keras_l2l
from train import choose
from train.suite import opponents
from train.suite.tasks import TASKS
from train.suite.tasks import base
from train.suite.tasks import networks


def task():
    def data():
        return [(np.ones((20, 3)),) * 2] * 2

    return base.SuiteTask("one", "line", data, None, "mse", None, 40, 10)


def controls_of(change):
    params = opponents.find(f"default: {change}", {})(task()).meta_params
    return {k: np.array(v) for k, v in params["controls"].items()}


def test_a_change_sets_what_it_names_and_nothing_else():
    before = keras_l2l.LearnedOptimizer().meta_params
    name = "default: decay.fall=-7.5 schedule.power=2"
    after = opponents.find(name, {})(task()).meta_params
    for group, values in before.items():
        for key, value in values.items():
            different = np.array(value) != np.array(after[group][key])
            expected = {("controls", "decay"): 1, ("schedule", "power"): 1}
            assert different.sum() == expected.get((group, key), 0)
    assert float(after["schedule"]["power"]) == 2
    assert -7.5 in np.array(after["controls"]["decay"])


@pytest.mark.parametrize("told", [True, False])
def test_a_change_is_told_the_length_or_not(told):
    base_name = "default" if told else "default without length"
    optimizer = opponents.find(f"{base_name}: decay.one=1", {})(task())
    assert optimizer.rule.num_steps == (40 if told else None)


@pytest.mark.parametrize(
    "change",
    ["decay.nope=1", "nope.one=1", "decay.one", "decay.one=x", "one=1"],
)
def test_a_wrong_change_is_refused(change):
    with pytest.raises(ValueError) as caught:
        controls_of(f"slow.one=1 {change}")
    message = str(caught.value)
    assert message.endswith(f"Received: {change}.")
    assert "constants" in message and "decay" in message


def test_networks_are_of_validation_and_not_of_the_suite():
    tasks = networks.validation()
    assert len(tasks) == 24 and not {*tasks} & {*TASKS}
    for found in tasks.values():
        assert found.get_config()["code"]


def test_examples_are_disjoint(monkeypatch):
    data = {"meta_valid": (np.arange(4000), np.arange(4000))}
    monkeypatch.setattr(networks.varied_networks, "data_of", lambda *args: data)
    for number, expected in ((600, 600), (3000, 3000), (9000, 3000)):
        (x, y), (held_x, _) = networks._validation_data.__wrapped__(
            "images", number, None, False
        )
        assert (x == y).all() and len(x) == expected
        assert not {*x} & {*held_x} and len(held_x) == 1000


def test_a_table_of_changes(tmp_path, monkeypatch, capsys):
    tiny = {
        name: found._replace(data=lines)
        for name, found in networks.validation().items()
        if name == "autoencoder_wide_600"
    }
    monkeypatch.setattr(networks, "validation", lambda *args: tiny)
    with flagsaver.flagsaver():
        choose.define_flags()
        given = ["--num_steps=2", "--workers=1", "--untold"]
        change = "--change=rate.one=-9"
        flags.FLAGS(["choose", f"--output_dir={tmp_path}", *given, change])
        try:
            choose.main()
        finally:
            flags.FLAGS.unparse_flags()
    output = capsys.readouterr().out
    assert "ends above that of adam:" in output
    header = "default without length  default without length: rate.one=-9"
    assert header in output
    assert len(list(tmp_path.glob("runs/*/*.json"))) == 3


def test_missing_data_are_named_with_the_way_out(tmp_path):
    folder = f"--data_dir={tmp_path}/data"
    done = forked.run("choose", f"--output_dir={tmp_path}/runs", folder)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert "'fashion_mnist' must be prepared" in message
    assert "--download" in message and "--data_dir" in message
    assert not (tmp_path / "runs").exists()


def lines():
    x = np.random.default_rng(0).normal(size=(128, 49)).astype("float32")
    return (x, x), (x, x)
