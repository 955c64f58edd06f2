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
from train import committed
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
        name
        for page in report.PAGES
        for name in report.tables_in(page.read_text())
    ]
    names = committed.names()
    assert len(names) > 40
    # Guarded ones share one: what they are compared with has its own.
    own = [name for name in names if not name.startswith("guarded/")]
    assert sorted(name for name in tables if "*" not in name) == sorted(own)
    assert sorted(name for name in tables if "*" in name) == [
        "guarded/*",
        "long/*",
    ]


def test_figures_are_those_that_pages_show():
    shown = {
        figure for page in report.PAGES for figure in report.figures_in(page)
    }
    assert len(shown) > 20
    assert shown == {*committed.RESULTS.rglob("*.png")}


def test_what_is_committed_is_small():
    files = [path for path in committed.RESULTS.rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in files}
    assert max(sizes.values()) < 200_000 and sum(sizes.values()) < 2_000_000


def test_readme_scripts_and_files_exist():
    for name in re.findall(r"python -m (train\.\w+)", README):
        assert importlib.util.find_spec(name)
    paths = re.findall(r"`((?:keras_l2l|train)/[\w/.]*)`", README)
    assert len(paths) > 8
    for path in paths:
        assert (ROOT / path).exists(), path


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
