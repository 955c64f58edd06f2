"""The README's code and numbers, and the examples in docstrings."""

import doctest
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_l2l
from train import report

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_l2l.__path__, "keras_l2l.")
]


# Before the README's code: a warning would be an error, as in .pytest.ini.
STRICT = """
import warnings

import keras_l2l
import keras_l2l.export
import keras_l2l.tasks

warnings.simplefilter("error")
warnings.filterwarnings(
    "ignore",
    "__array__ implementation doesn't accept a copy",
    DeprecationWarning,
)
"""
# What must hold after it.
CHECKS = """
import pathlib

# Both models were trained, and all is where the text says it is.
assert pathlib.Path("runs/mine/preset").is_dir()
assert pathlib.Path("exported/step/saved_model.pb").is_file()
assert result["loss"] < 0.5
assert value < 1
assert model.evaluate(x, y, verbose=0) < 0.5
# 500 meta-steps are a taste: no race with Adam, but it has learned.
for curves in (learned, adam):
    assert curves.mean() < 0.25 * curves[:, 0].mean()
"""


def test_readme_code_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 6
    script = tmp_path / "readme.py"
    script.write_text("\n".join([STRICT, *blocks, CHECKS]))
    # As a user would: conftest.py has XLA optimize less.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", report.PAGES, ids=str)
def test_tables_are_the_committed_results(page):
    assert report.with_tables(page.read_text()) == page.read_text()


def test_every_committed_result_has_a_table():
    tables = [
        path
        for page in report.PAGES
        for path in report.tables_in(page.read_text())
    ]
    results = [
        path
        for pattern in ("*/evaluation*.json", "benchmark/*.json")
        for path in ROOT.glob(f"train/results/{pattern}")
    ]
    assert len(results) > 10
    # Guarded ones share one: what they are compared with has its own.
    own = [p for p in results if p.parent.name != "guarded"]
    assert sorted(path for path in tables if "*" not in path) == sorted(
        str(p.relative_to(ROOT)) for p in own
    )
    assert tables.count("train/results/guarded/evaluation_*.json") == 1


def test_readme_scripts_and_files_exist():
    for name in re.findall(r"python -m (train\.\w+)", README):
        assert importlib.util.find_spec(name)
    paths = re.findall(r"`((?:keras_l2l|train)/[\w/.]*)`", README)
    assert len(paths) > 8
    for path in paths:
        assert (ROOT / path).exists(), path


def test_there_are_committed_results():
    names = {p.parent.name for p in ROOT.glob("train/results/*/config.json")}
    assert {"digits", "quadratics"} <= names


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = {"keras": keras, "keras_l2l": keras_l2l, "np": np}
    runner = doctest.DocTestRunner()
    for example in finder.find(module, globs=names):
        runner.run(example)
    assert runner.failures == 0


def test_docstring_examples_are_found():
    found = [
        example
        for name in MODULES
        for example in doctest.DocTestFinder().find(
            importlib.import_module(name)
        )
        if example.examples
    ]
    assert len(found) >= 3


@pytest.mark.parametrize("name", MODULES)
def test_public_things_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for attribute, value in vars(module).items():
        if attribute.startswith("_") or (
            getattr(value, "__module__", None) != name
        ):
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            first = inspect.getdoc(value).splitlines()[0]
            assert 10 < len(first) <= 80, f"{name}.{attribute}"
