import sys

import pytest

from keras_l2l import command
from keras_l2l import presets

MODULE = """
import keras
import numpy as np


def make_model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


x = np.random.default_rng(0).normal(size=(40, 3))
data = (x, x[:, :1])
load_data = lambda: data
loss = keras.losses.Huber()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    (tmp_path / "users_model.py").write_text(MODULE)
    # There is none of this clone.
    for name in [n for n in sys.modules if n.partition(".")[0] == "train"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in ("users_model", "train"):
        sys.modules.pop(name, None)


def test_presets(capsys):
    command.main(["presets"])
    assert capsys.readouterr().out == f"{presets.shipped()}\n"


def test_compare(here, capsys, monkeypatch):
    monkeypatch.setattr("keras_l2l.evaluation.compare.RATES", (0.003,))
    command.main(
        [
            *("compare", "--model=users_model:make_model", "--steps=2"),
            *("--data=users_model:load_data", "--loss=users_model:loss"),
            *("--validation_data=users_model:data", "--seeds=1"),
            *("--metrics", "mae", "--figure=compared.png"),
        ]
    )
    shown = capsys.readouterr().out
    assert "After 2 steps" in shown and "mae [95 %]" in shown
    assert "AdamW 0.003" in shown
    assert (here / "compared.png").is_file()


@pytest.mark.parametrize(
    "model", ["users_model", "users_model:nothing", "nowhere:make_model"]
)
def test_what_cannot_be_found(here, model):
    with pytest.raises(SystemExit, match="must be given as module:name"):
        command.main(
            [
                *("compare", "--model", model),
                *("--data=users_model:data", "--loss=mse"),
            ]
        )


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--figure=a.xyz", "format of matplotlib.*Pass one of"),
        ("--figure=users_model.py", "file must be new"),
        ("--seeds=1", "the same command continues"),
    ],
)
def test_before_and_while_it_runs(here, monkeypatch, flag, message):
    monkeypatch.setattr("keras_l2l.evaluation.compare.compare", interrupted)
    arguments = ["--model=users_model:make_model", "--loss=mse", flag]
    with pytest.raises(SystemExit, match=message):
        command.main(["compare", *arguments, "--data=users_model:data"])


def test_a_missing_extra_is_named(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "absl", None)
    with pytest.raises(SystemExit, match=r"Received: .*l2l\[train\]"):
        command.main(["plot", "--help"])


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    shown = capsys.readouterr().out
    for name in ("presets", "compare", "meta-train", "train.evaluate"):
        assert name in shown
