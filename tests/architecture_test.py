"""Who may import what (DESIGN: layout), read from the code's imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_l2l"
# Importer -> the modules of this package it may import, by first component.
ARROWS = {
    "__init__": {"backends", "callbacks", "presets", "rules", "optimizer"},
    "callbacks": {"horizons"},
    "backends": set(),
    "preprocess": set(),
    "cells": set(),
    "nests": set(),
    "checks": set(),
    "chunks": {"backends"},
    "division": set(),
    "storage": {"backends", "nests"},
    "configurations": {"checks"},
    "descriptions": {"configurations"},
    "divergence": set(),
    "runs": {"configurations"},
    "rules": {
        "backends",
        "cells",
        "checks",
        "chunks",
        "division",
        "nests",
        "preprocess",
        "rules",
    },
    "npz": set(),
    "arrays": {"backends", "nests"},
    "celo_weights": {"arrays", "nests", "rules"},
    "presets": {"arrays", "celo_weights", "checks", "npz", "rules", "runs"},
    "horizons": {"backends", "checks", "skipped"},
    "gradients": set(),
    "memory": set(),
    "execution": {"backends", "chunks", "nests", "rules"},
    "optimizer": {
        "arrays",
        "backends",
        "execution",
        "gradients",
        "horizons",
        "memory",
        "nests",
        "presets",
        "replicas",
        "rules",
        "storage",
    },
    "replicas": {"backends", "checks", "rules", "seen_loss"},
    "seen_loss": {"backends", "restoring"},
    "skipped": {"backends", "replicas"},
    "restoring": {"division"},
    "tasks": {"checks", "descriptions", "tasks"},
    "recomputation": {"backends"},
    "unroll": {"gradients", "recomputation", "rules"},
    "estimators": {
        "backends",
        "checks",
        "unroll",
        "tasks",
        "rules",
        "estimators",
    },
    "distribution": {"checks", "tf_errors"},
    "meta_run": {"checkpoints", "validation"},
    "validation": {"estimators", "tasks", "unroll"},
    "episode_lengths": set(),
    "meta_setup": {
        "checks",
        "descriptions",
        "distribution",
        "episode_lengths",
        "estimators",
        "meta_run",
        "rules",
        "tasks",
        "validation",
    },
    "meta_training": {
        "arrays",
        "interruption",
        "meta_setup",
        "recorder",
        "rules",
        "runs",
        "saved_run",
        "watch",
    },
    "meta_search": {
        "checks",
        "divergence",
        "meta_training",
        "presets",
        "runs",
        "watch",
    },
    "saved_run": {
        "checkpoints",
        "configurations",
        "interruption",
        "presets",
        "runs",
    },
    "inspection": {
        "checks",
        "divergence",
        "gradients",
        "meta_setup",
        "meta_training",
        "nests",
        "rules",
        "tasks",
        "unroll",
    },
    "replay": {
        "checkpoints",
        "configurations",
        "estimators",
        "meta_setup",
        "rules",
        "runs",
    },
    "checkpoints": {"npz", "runs"},
    "interruption": set(),
    "tf_errors": set(),
    "watch": {"divergence"},
    "analysis": {"arrays", "checks", "gradients", "rules", "tasks"},
    "pictures": {"evaluation", "tasks"},
    "trainer": {"checks", "tasks"},
    "export": {"backends", "checks", "gradients", "nests", "rules", "runs"},
    "plots": {"results", "runs"},
    "recorder": {"divergence", "estimators"},
    "results": {"divergence"},
    "evaluation": {
        "checks",
        "descriptions",
        "divergence",
        "results",
        "runs",
        "trainer",
    },
}
TENSORFLOW = {
    "analysis",
    "backends",
    "distribution",
    "estimators",
    "export",
    "inspection",
    "meta_run",
    "recorder",
    "recomputation",
    "tasks",
    "trainer",
    "unroll",
    "validation",
}
ONLY_IN = {
    "tensorflow_datasets": {"tasks/builders.py", "tasks/datasets.py"},
    "matplotlib": {"plots.py"},
    "absl": set(),
    "train": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Yields every absolute module that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", MODULES, ids=lambda p: str(p.relative_to(ROOT))
)
def test_arrows(path):
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "keras_l2l" and rest and rest[0] != "__version__":
            assert rest[0] in ARROWS[room(path)] | {room(path)}, name
        if first == "tensorflow":
            assert room(path) in TENSORFLOW
        if first in ONLY_IN:
            assert str(path.relative_to(PACKAGE)) in ONLY_IN[first]


def test_every_room_is_on_the_plan():
    assert {room(path) for path in MODULES} == set(ARROWS)


def test_importing_the_package_is_light():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_l2l; "
        "print(sorted(n for n in set(sys.modules) - before if '.' not in n), "
        "[n for n in ('tasks', 'evaluation', 'export', 'meta_training', "
        "'unroll') if f'keras_l2l.{n}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['keras_l2l'] []"


def test_size_of_functions():
    for path in [*MODULES, *(ROOT / "train").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    size = body[-1].end_lineno - body[0].lineno + 1
                    assert size <= 60, f"{path}: {node.name} has {size} lines"
