"""The code and the tables of README.md and docs/, and docstrings' examples."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re
import xml.etree.ElementTree

import forked
import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import keras_l2l
from train import committed
from train import meta_flags
from train import report

ROOT = pathlib.Path(__file__).parent.parent
DRAWINGS = sorted((ROOT / "docs/drawings").glob("*.svg"))
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in report.PAGES}
CODE = {
    name: blocks
    for name, text in PAGES.items()
    if (blocks := re.findall(r"```python\n(.*?)```", text, re.DOTALL))
}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_l2l.__path__, "keras_l2l.")
]


# Before a page's code: a warning would be an error, as in .pytest.ini.
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
# For pages that would train many models: one seed is enough to run their code.
BEFORE = {
    "docs/comparing.md": """
import functools

keras_l2l.compare = functools.partial(keras_l2l.compare, seeds=[0])
""",
}
# What must hold after it: models were trained, and files are where they are
# said to be. Losses of a classifier of ten classes are 2.3 at first.
CHECKS = {
    "README.md": """
assert pathlib.Path("runs/mine/preset").is_dir()
assert model.evaluate(x, y, verbose=0) < 2
""",
    "docs/choosing_an_optimizer.md": """
assert model.evaluate(x, y, verbose=0) < 2
assert {"learned", "adam"} <= {r["optimizer"] for r in result["results"]}
""",
    "docs/comparing.md": """
assert len(result.names) == 7 and "lowest validation loss" in str(result)
assert pathlib.Path("compared.png").is_file()
assert pathlib.Path("compared.json").is_file()
""",
    "docs/export.md": """
assert pathlib.Path("exported/step/saved_model.pb").is_file()
assert result["loss"] < 2
assert value < 1
""",
    "docs/getting_started.md": """
assert value < 2
assert model.optimizer.iterations == 10 * 15 + 10 + 2 * 15
assert len(monitor.history["step"]) == 3
""",
    "docs/long_and_distributed_runs.md": """
assert first.history["validation"] == again.history["validation"]
""",
    "docs/meta_training.md": """
for name in ("config.json", "preset", "history.json", "logs", "checkpoints"):
    assert pathlib.Path("runs/mine", name).exists()
assert again.history["meta_loss"] == result.history["meta_loss"]
assert pathlib.Path("runs/fine_tuned/preset").is_dir()
for curves in (learned, adam):
    assert curves[:, -1].mean() < curves[:, 0].mean()
""",
    "docs/recipes.md": """
assert model.optimizer.iterations == 5 * 45
assert model.evaluate(x / 16, y, verbose=0) < 0.5
""",
    "docs/writing_a_rule.md": """
before, *_, after = result.history["validation"]
assert after["final_loss"] < before["final_loss"]
""",
}


@pytest.mark.parametrize("name", CODE)
def test_code_of_a_page_runs(name, tmp_path):
    script = tmp_path / "page.py"
    script.write_text(
        "\n".join(
            [
                STRICT,
                BEFORE.get(name, ""),
                *CODE[name],
                "import pathlib",
                CHECKS[name],
            ]
        )
    )
    done = forked.run_file(script, cwd=tmp_path)
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
    drawings = {*DRAWINGS}
    assert len(shown) > 20
    assert shown - drawings == {*committed.RESULTS.rglob("*.png")}
    assert shown & drawings == drawings


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.name)
def test_drawings_name_files_of_the_package(path):
    texts = xml.etree.ElementTree.parse(path).getroot().itertext()
    names = re.findall(r"\w+/\w+\.py", " ".join(texts))
    assert len(names) >= 5
    for name in names:
        assert (ROOT / "keras_l2l" / name).is_file(), name


def test_what_is_committed_is_small():
    files = [path for path in committed.RESULTS.rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in files}
    assert max(sizes.values()) < 200_000 and sum(sizes.values()) < 2_000_000


@pytest.mark.parametrize("name", PAGES)
def test_scripts_and_files_of_a_page_exist(name):
    text = PAGES[name]
    for script in re.findall(r"python -m (train\.\w+)", text):
        assert importlib.util.find_spec(script)
    paths = re.findall(r"`((?:keras_l2l|train|tests)/[\w/.]*)`", text)
    for path in paths:
        assert (ROOT / path).exists(), path


def test_flags_of_the_pages_exist():
    sources = "".join(p.read_text() for p in (ROOT / "train").rglob("*.py"))
    # Those of the command have their hyphens there.
    command = (ROOT / "keras_l2l" / "command.py").read_text()
    sources += command.replace('"--', '"')
    with flagsaver.flagsaver():
        meta_flags.define_flags()
        defined = {*flags.FLAGS}
    flags.FLAGS.unparse_flags()
    text = "".join(PAGES.values())
    found = set(re.findall(r"--(?:no)?(\w+)", text))
    assert len(found) > 30
    # Two are absl's own.
    for flag in found - {"flagfile", "help"}:
        assert flag in defined or f'"{flag}"' in sources, flag


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_api_reference_is_complete():
    documented = re.findall(r"::: ([\w.]+)", "".join(PAGES.values()))
    documented = {name.rpartition(".")[2] for name in documented}
    # Packages are pages.
    packages = {
        *("callbacks", "estimators", "evaluation", "export"),
        "meta_training",
        *("presets", "rules", "tasks"),
    }
    # Which are described where they are explained.
    helpers = {"SPLITS", "Episode", "__version__", "deserialize", "serialize"}
    for module in (
        keras_l2l,
        keras_l2l.callbacks,
        keras_l2l.estimators,
        keras_l2l.meta_training,
        keras_l2l.rules,
        keras_l2l.tasks,
    ):
        names = set(module.__all__) - packages - helpers
        assert names <= documented


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
