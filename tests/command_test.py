import subprocess
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
    yield tmp_path
    sys.modules.pop("users_model", None)


def test_presets(capsys):
    command.main(["presets"])
    assert capsys.readouterr().out == f"{presets.shipped()}\n"


def test_compare(here, capsys):
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


def test_scripts_need_a_clone(here):
    with pytest.raises(SystemExit, match="in a clone of the repository"):
        command.main(["meta-train", "--task=mlp"])
    (here / "train").mkdir()
    (here / "train/__init__.py").touch()
    (here / "train/meta_train.py").write_text(
        "import sys; assert __name__ == '__main__'\n"
        "open('flags', 'w').write(' '.join(sys.argv[1:]))"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from keras_l2l.command import main; main()",
            *("meta-train", "--task=mlp"),
        ],
        env={"PYTHONPATH": str(command.__file__).rsplit("/", 2)[0]},
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (here / "flags").read_text() == "--task=mlp"


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    shown = capsys.readouterr().out
    for name in ("presets", "compare", "meta-train", "train.evaluate"):
        assert name in shown
