"""The notebooks in examples/: their code runs, and they show figures."""

import json
import pathlib

import forked
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
# Before a notebook's code: figures need no display, and warnings are errors.
STRICT = """
import warnings

import keras_l2l
import keras_l2l.tasks
import matplotlib

matplotlib.use("agg")
warnings.simplefilter("error")
warnings.filterwarnings(
    "ignore",
    "__array__ implementation doesn't accept a copy",
    DeprecationWarning,
)
"""
# What a notebook does several times is done once.
ONCE = {
    "quickstart.ipynb": {
        "for rate in (0.001, 0.01, 0.1):": "for rate in (0.001,):",
        "for seed in range(2)]": "for seed in range(1)]",
    },
    "meta_train_your_model.ipynb": {
        "[0.01, 0.03, 0.1, 0.3, 1.0]": "[0.03, 0.1, 0.3]",
        "seeds=range(3)": "seeds=range(1)",
    },
}
# What must hold after it. Losses of a classifier of ten classes are 2.3 at
# first, and its accuracy is 0.1.
CHECKS = {
    "quickstart.ipynb": """
assert curves["learned"][-1] < curves["Adam, 0.001"][-1] < 1
assert results["learned"][1] > 0.8
assert model.optimizer.iterations == 61 * 12
""",
    "meta_train_your_model.ipynb": """
before, *_, after = result.history["validation"]
assert after["final_loss"] < before["final_loss"] / 10
assert all(losses[:, -1].mean() < 0.1 for losses in curves.values())
assert accuracy > 0.8
""",
}


def cells(name):
    notebook = json.loads((EXAMPLES / name).read_text())
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def test_every_notebook_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.ipynb")} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_code_of_a_notebook_runs(name, tmp_path):
    script = tmp_path / "notebook.py"
    code = "\n".join("".join(cell["source"]) for cell in cells(name))
    for often, once in ONCE[name].items():
        assert often in code
        code = code.replace(often, once)
    script.write_text("\n".join([STRICT, code, CHECKS[name]]))
    done = forked.run_file(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_outputs_of_a_notebook_are_complete_and_small(name):
    outputs = [o for cell in cells(name) for o in cell["outputs"]]
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 2
    assert not [o for o in outputs if o["output_type"] == "error"]
    counts = [cell["execution_count"] for cell in cells(name)]
    assert counts == [*range(1, len(counts) + 1)]
    assert (EXAMPLES / name).stat().st_size < 150_000
