"""Who may import what (DESIGN: layout), read from the code's imports."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_l2l"
# Importer -> the packages that it may import, beside itself.
ARROWS = {
    "version": set(),
    "utils": {"version"},
    "rules": {"utils"},
    "presets": {"rules", "utils", "version"},
    "optimizer": {"presets", "rules", "utils"},
    "callbacks": {"optimizer", "utils"},
    "tasks": {"utils"},
    "estimators": {"rules", "tasks", "utils"},
    "meta_training": {"estimators", "presets", "rules", "tasks", "utils"},
    "evaluation": {"optimizer", "presets", "rules", "tasks", "utils"},
    "export": {"optimizer", "rules", "utils"},
    "command": {"evaluation", "presets", "utils"},
    "installed": set(),
    "__init__": {
        *("callbacks", "installed", "optimizer", "presets", "rules"),
        *("utils", "version"),
        # For type checkers alone, see `test_importing_the_package_is_light`.
        *("estimators", "evaluation", "export", "meta_training", "tasks"),
    },
}
# What may import TensorFlow.
TENSORFLOW = {"estimators", "evaluation", "export", "meta_training", "tasks"}
BACKENDS = [PACKAGE / "utils/backends.py", PACKAGE / "utils/tracing.py"]
ONLY_IN = {
    "tensorflow_datasets": {
        "tasks/data/builders.py",
        "tasks/data/datasets.py",
    },
    "matplotlib": {"callbacks/figure.py", "evaluation/plots.py"},
    "huggingface_hub": {"presets/hub.py"},
    "kagglehub": {"presets/hub.py"},
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
    """Returns the package, or top-level module, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", MODULES, ids=lambda p: str(p.relative_to(ROOT))
)
def test_arrows(path):
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "keras_l2l":
            # The package's own `__init__` imports most of the others.
            assert rest and rest[0] in ARROWS[room(path)] | {room(path)}, name
        if first == "tensorflow" and path not in BACKENDS:
            assert room(path) in TENSORFLOW
        if first in ONLY_IN:
            assert str(path.relative_to(PACKAGE)) in ONLY_IN[first]


def test_every_room_is_on_the_plan():
    assert {room(path) for path in MODULES} == set(ARROWS)


def test_modules_import_each_other_in_no_circle():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in MODULES
    }

    def targets(name):
        """Returns the modules that a name stands for."""
        while name not in modules and f"{name}.__init__" not in modules:
            name = name.rpartition(".")[0]
        if name in modules:
            return {name}
        # A package stands for the modules whose names it exports.
        exported = [
            n
            for n in imports(modules[f"{name}.__init__"])
            if n.startswith("keras_l2l.")
        ]
        return set().union(*map(targets, exported)) if exported else set()

    graph = {
        name: set().union(
            *(targets(n) for n in imports(path) if n.startswith("keras_l2l."))
        )
        for name, path in modules.items()
        if path.name != "__init__.py"
    }
    list(graphlib.TopologicalSorter(graph).static_order())


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
