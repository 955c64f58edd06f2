import subprocess
import sys

import pytest

import keras_l2l


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_missing_backend_is_named(backend):
    code = f"""
import os, sys
class Missing:
    def find_spec(name, *args):
        if name.partition(".")[0] == {backend!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing)
os.environ["KERAS_BACKEND"] = {backend!r}
import keras_l2l
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "TensorFlow, JAX or PyTorch" in last
    assert f"pip install {backend}" in last and "KERAS_BACKEND" in last
    assert done.returncode == 1 and "During handling" not in done.stderr


def test_completion_finds_what_is_public():
    assert dir(keras_l2l) == sorted(keras_l2l.__all__)
    assert {"meta_train", "tasks", "evaluation", "export"} <= {*dir(keras_l2l)}
    with pytest.raises(
        AttributeError, match=r"It is keras_l2l\.callbacks\.Upd"
    ):
        keras_l2l.UpdateMonitor  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Updates'$"):
        keras_l2l.Updates  # noqa: B018
    for name in keras_l2l.__all__:
        assert getattr(keras_l2l, name) is not None
