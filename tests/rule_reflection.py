"""All rules there are, each with its arguments, on every Keras backend."""

import importlib
import inspect
import pkgutil

import keras
import pytest

from keras_l2l import rules


@keras.saving.register_keras_serializable(package="tests")
def _is_scalar(variable):
    return variable.shape == ()


# What a class needs that has no default; a new class needs a line only then.
ARGUMENTS = {
    rules.Partition: lambda: rules.Partition(
        [("1|2", rules.CoordinatewiseLSTM()), (_is_scalar, rules.Adam())],
        default=rules.Momentum(),
    ),
    rules.Celo: lambda: rules.Celo(num_steps=20),
    rules.CeloAdam: lambda: rules.CeloAdam(num_steps=20),
    rules.Celo2: lambda: rules.Celo2(num_steps=20),
    rules.Guarded: lambda: rules.Guarded(rules.CoordinatewiseLSTM()),
    # Which takes variables of any shape.
    rules.KernelLSTM: lambda: rules.KernelLSTM(()),
}

# Bases that are not in a module `base`.
ABSTRACT = {
    rules.BlockwiseRule,
    rules.TensorwiseRule,
    rules.VectorRule,
    rules.WrapperRule,
}


def concrete_subclasses(package, base):
    """Returns the public classes of a package that derive from `base`."""
    found = set()
    for module in pkgutil.iter_modules(
        package.__path__, package.__name__ + "."
    ):
        members = vars(importlib.import_module(module.name)).values()
        found |= {
            member
            for member in members
            if inspect.isclass(member)
            and issubclass(member, base)
            and member.__module__ == module.name
            and module.name != f"{package.__name__}.base"
            and member not in ABSTRACT
            and not member.__name__.startswith("_")
        }
    return sorted(found, key=lambda c: c.__name__)


def make(cls):
    return ARGUMENTS.get(cls, cls)()


def parametrize(name, package, base):
    classes = concrete_subclasses(package, base)
    assert classes
    return pytest.mark.parametrize(
        name, classes, ids=[c.__name__ for c in classes]
    )


every_rule = parametrize("rule", rules, rules.UpdateRule)
