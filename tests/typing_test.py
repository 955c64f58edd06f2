"""The public API has types, as `py.typed` promises type checkers."""

import ast
import inspect
import pathlib
import pkgutil
import re
import types
import typing

import pytest

import keras_l2l

PAGES = pathlib.Path(__file__).parent.parent / "docs/api"
LISTED = {name: getattr(keras_l2l, name) for name in keras_l2l.__all__}
# Those with a list of their own.
PACKAGES = [
    module
    for module in (keras_l2l, *LISTED.values())
    if isinstance(module, types.ModuleType) and hasattr(module, "__all__")
]


def public_things():
    """Returns the classes and functions in `__all__` and on pages of docs."""
    documented = re.findall(
        r"^::: ([\w.]+)$",
        "\n".join(page.read_text() for page in PAGES.glob("*.md")),
        re.MULTILINE,
    )
    things = [pkgutil.resolve_name(name) for name in documented]
    for package in PACKAGES:
        things += [getattr(package, name) for name in package.__all__]
    return [t for t in things if inspect.isclass(t) or inspect.isfunction(t)]


def definitions(cls):
    """Yields the functions that give a class its types.

    An override has the types of the method that it overrides, but for
    constructors.
    """
    ours = [c for c in cls.__mro__ if c.__module__.startswith("keras_l2l.")]
    made = [vars(c)["__init__"] for c in ours if "__init__" in vars(c)]
    yield from made[:1]
    # Of bases last, and the last is kept.
    members = {n: m for c in ours for n, m in vars(c).items()}
    for name, member in members.items():
        if isinstance(member, property):
            member = member.fget
        member = getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(member):
            yield member


def functions():
    """Returns all public functions and methods by name."""
    found = {}
    for thing in public_things():
        inner = definitions(thing) if inspect.isclass(thing) else [thing]
        for function in inner:
            name = f"{function.__module__}.{function.__qualname__}"
            # A property may be that of a base in Keras.
            if name.startswith("keras_l2l."):
                found[name] = function
    return found


FUNCTIONS = functions()


def test_public_functions_are_found():
    assert len(FUNCTIONS) > 150
    for name in (
        "evaluation.compare.compare",
        "meta_training.meta_train.meta_train",
        "optimizer.learned_optimizer.LearnedOptimizer.__init__",
        "optimizer.learned_optimizer.LearnedOptimizer.from_preset",
        "optimizer.learned_optimizer.LearnedOptimizer.meta_params",
        "rules.base.UpdateRule.step",
    ):
        assert f"keras_l2l.{name}" in FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_function_has_types(name):
    signature = inspect.signature(FUNCTIONS[name])
    kinds = {n: p.annotation for n, p in signature.parameters.items()}
    kinds["return"] = signature.return_annotation
    lacking = [n for n, kind in kinds.items() if kind is signature.empty]
    assert not {*lacking} - {"self", "cls"}
    # Raises if a type in a string is the name of nothing.
    typing.get_type_hints(FUNCTIONS[name])
    if "Returns:" in (FUNCTIONS[name].__doc__ or ""):
        assert kinds["return"] is not None


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_type_checkers_see_every_public_name(package):
    # They run nothing, so they do not see what `__getattr__` would import.
    nodes = [*ast.walk(ast.parse(inspect.getsource(package)))]
    seen = {getattr(node, "name", None) for node in nodes}
    seen |= {n.id for n in nodes if isinstance(n, ast.Name)}
    assert {*package.__all__} <= seen
