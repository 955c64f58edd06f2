"""`compare`: does a learned optimizer pay for one's own model?"""

import functools
import hashlib
import os
import pathlib
import typing
import urllib.parse
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_l2l.evaluation import summary
from keras_l2l.evaluation.compared import Compared
from keras_l2l.evaluation.trainer import Trainer
from keras_l2l.evaluation.trainer import new_optimizer
from keras_l2l.evaluation.trainer import require_function
from keras_l2l.optimizer.learned_optimizer import LearnedOptimizer
from keras_l2l.tasks.keras_model import KerasModelTask
from keras_l2l.utils import checks
from keras_l2l.utils import files
from keras_l2l.utils.descriptions import json_able
from keras_l2l.utils.versions import versions

# Peak rates of AdamW, a factor of three apart around the usual one.
RATES = (0.0003, 0.001, 0.003, 0.01)
# The arguments behind what is recorded, where their names differ.
_ARGUMENTS = {
    "task": "make_model",
    "task_config": "make_model, loss, data or batch_size",
    "points": "steps",
}
# Validations of a training run, at most.
_POINTS = 20


def compare(
    make_model: Callable[[], keras.Model],
    loss: typing.Any,
    data: typing.Any,
    optimizers: Mapping[str, Callable[[], keras.optimizers.Optimizer] | None]
    | None = None,
    steps: int = 1000,
    seeds: Sequence[int] = range(3),
    batch_size: int = 32,
    validation_data: typing.Any = None,
    metrics: Sequence[typing.Any] = (),
    output_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Compared:
    """Trains a model with several optimizers, and tells which is best.

    These are `LearnedOptimizer()`, Keras' `Adam()`, AdamW with warm-up and
    cosine decay to 0 at four peak rates, and those given. All start from the
    same weights and see the same batches. The best has the lowest validation
    loss at the end. The best rate of AdamW is chosen in these same runs, which
    favours AdamW.

    Args:
        make_model: Function without arguments that returns a new, built
            `keras.Model`.
        loss: As for `compile`.
        data: Examples `(x, y)` or `(x, y, sample_weight)`, or a
            `tf.data.Dataset` of these, as for `tasks.KerasModelTask`. Without
            `validation_data`, three fifths are trained on and a fifth
            validates.
        optimizers: Dict from names to functions without arguments that return
            a new `keras.optimizers.Optimizer`. One of the names above replaces
            that optimizer, and `None` leaves it out.
        steps: Int >= 2, the length of each run. Defaults to 1000.
        seeds: Ints, one for each run of an optimizer. Defaults to three; an
            interval needs at least two.
        batch_size: Int. Defaults to 32.
        validation_data: As `data`, or `None`.
        metrics: As for `compile`, for example `["accuracy"]`.
        output_dir: Path of a folder for the result of each run, or `None`. The
            same call continues a comparison that was stopped.
        verbose: 0 for silence, 1 for a progress bar with the time that is
            left.

    Returns:
        `keras_l2l.evaluation.Compared`, with `table()`, `plot()` and
        `save()`. Printed, it says in one sentence which optimizer is best, and
        whether the intervals overlap.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range, or
            the folder holds another comparison.

    Example:
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> result = keras_l2l.compare(
    ...     lambda: keras.Sequential(
    ...         [keras.Input((3,)), keras.layers.Dense(1)]
    ...     ),
    ...     "mse",
    ...     (x, x[:, :1]),
    ...     {f"AdamW {rate:g}": None for rate in (0.0003, 0.003, 0.01)},
    ...     steps=4,
    ...     verbose=0,
    ... )
    >>> result.names
    ['LearnedOptimizer', 'Adam', 'AdamW 0.001']
    """
    steps, seeds = _checked(steps, seeds)
    _check_forms(optimizers, metrics, validation_data)
    if validation_data is not None:
        # KerasModelTask divides what comes without names.
        data = {
            "train": data,
            "meta_valid": validation_data,
            "test": validation_data,
        }
    task = KerasModelTask(
        make_model, loss, data, batch_size, metrics=list(metrics)
    )
    # Before a folder is made, and before anything is trained.
    task.check_metrics()
    makers = _makers(optimizers, steps, task.steps_per_epoch("train"))
    about = {
        "task": task.name,
        "task_config": json_able(task.get_config()),
        "metrics": json_able(list(metrics)),
        "steps": steps,
        "points": _points(steps),
        "versions": {**versions(), "commit": None},
    }
    runs = _Runs(task, about, output_dir, verbose)
    return Compared(
        {**about, "seeds": seeds, "optimizers": runs.of(makers, seeds)}
    )


def _checked(steps, seeds):
    steps = checks.require_int("steps", steps)
    if steps < 2:
        raise ValueError(f"`steps` must be at least 2. Received: steps={steps}")
    seeds = checks.require_seeds("seeds", seeds)
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            "`seeds` must differ, or an interval would be of no use. "
            f"Received: seeds={checks.shown(seeds)}. Pass each once."
        )
    return steps, seeds


def _check_forms(optimizers, metrics, validation_data):
    """Raises ValueError where users of `fit` err."""
    if not isinstance(optimizers, (dict, type(None))):
        raise ValueError(
            "`optimizers` must be a dict from names to functions that return "
            "new optimizers. Received: an object of type "
            f"{type(optimizers).__name__}. Arrays x and y are one argument, "
            "data=(x, y)."
        )
    if not all(isinstance(name, str) for name in optimizers or ()):
        raise ValueError(
            "The names of `optimizers` must be strings. Received: "
            f"{checks.shown([*optimizers])}. Pass a dict such as "
            '{"SGD": keras.optimizers.SGD}.'
        )
    if isinstance(metrics, str):
        raise ValueError(
            f"`metrics` must be a list. Received: metrics={metrics!r}. Pass "
            f"[{metrics!r}]."
        )
    for metric in keras.tree.flatten(metrics):
        name = getattr(metric, "name", getattr(metric, "__name__", metric))
        if name == "loss" or name in summary.CRITERIA:
            raise ValueError(
                "A metric must not have the name of one of the losses. "
                f"Received: {name}. Give it another name."
            )
    if checks.is_number(validation_data):
        raise ValueError(
            "`validation_data` must be examples, as `data`. Received: "
            f"validation_data={validation_data}. Divide the data before, or "
            "leave it out: a fifth of them then validates."
        )


def _makers(optimizers, steps, steps_per_epoch):
    """Returns functions that make optimizers, by name."""
    makers = {
        "LearnedOptimizer": LearnedOptimizer,
        "Adam": keras.optimizers.Adam,
        **{
            f"AdamW {rate:g}": functools.partial(_adamw, rate, steps)
            for rate in RATES
        },
    }
    for name, make in (optimizers or {}).items():
        if make is None and name not in makers:
            raise ValueError(
                "`None` must be given for one of the default optimizers. "
                f"Received: {name!r}. They are {', '.join(makers)}."
            )
    makers |= optimizers or {}
    makers = {name: make for name, make in makers.items() if make is not None}
    if not makers:
        raise ValueError(
            "At least one optimizer must be left to compare. Received: None "
            f"for each of {', '.join(optimizers)}. Pass `None` for fewer."
        )
    for name, make in makers.items():
        require_function(make, f"optimizers[{name!r}]")
    return {
        name: _telling(make, steps, steps_per_epoch)
        for name, make in makers.items()
    }


def _telling(make, steps, steps_per_epoch):
    # No `partial`: of those, `Trainer` takes two with one function and
    # configuration for the same.
    def made():
        optimizer = make()
        if isinstance(optimizer, LearnedOptimizer):
            # Changes nothing for rules that need not know.
            optimizer.set_num_steps(steps, steps_per_epoch)
        return optimizer

    return made


def warmup_cosine(peak, steps):
    """Returns a schedule: warm-up over a twentieth, then a cosine to 0."""
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps - warmup),
        warmup_target=peak,
        warmup_steps=warmup,
    )


def _adamw(rate, steps):
    return keras.optimizers.AdamW(warmup_cosine(rate, steps))


def _points(steps):
    """Returns the steps after which validation comes, the first of them 1."""
    points = np.linspace(1, steps, min(_POINTS, steps)).round().astype(int)
    return [int(point) for point in points]


def _described(optimizer):
    """Returns what tells an optimizer from others, JSON-able and short."""
    config = optimizer.get_config()
    del config["name"]  # Keras numbers them.
    return {
        "class_name": type(optimizer).__name__,
        "learned": isinstance(optimizer, LearnedOptimizer),
        "sha256": hashlib.sha256(files.to_json(json_able(config))).hexdigest(),
    }


class _Runs:
    """Training runs, computed or read from the folder of an earlier call.

    Args:
        task: `KerasModelTask`.
        about: JSON-able dict, what all runs have in common.
        output_dir, verbose: As for `compare`.
    """

    def __init__(self, task, about, output_dir, verbose):
        self._task, self._points = task, about["points"]
        self._trainer = Trainer(task, about["steps"])
        self._folder = None
        self._verbose = verbose
        if output_dir is not None:
            self._folder = pathlib.Path(output_dir)
            self._require_same(about)

    def _require_same(self, about):
        path = self._folder / "comparison.json"
        if not path.exists():
            files.require_empty(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
            files.write_json(path, about)
        earlier = files.read_json(path)
        about = files.from_json(files.to_json(about), path)
        different = {
            _ARGUMENTS.get(k, k) for k in about if about[k] != earlier.get(k)
        }
        if different:
            raise ValueError(
                "A comparison must continue with the same arguments. Received: "
                f"another value of {', '.join(sorted(different))} than in "
                f"{path}. Choose another `output_dir`."
            )

    def of(self, makers, seeds):
        """Returns a dict from names to descriptions with the `runs`.

        Args:
            makers: Dict from names to functions that return a new optimizer.
            seeds: List of ints.
        """
        descriptions = {
            name: _described(new_optimizer(make))
            for name, make in makers.items()
        }
        found = {
            (name, seed): self._read(name, seed, descriptions[name])
            for name in makers
            for seed in seeds
        }
        missing = [key for key, run in found.items() if run is None]
        bar = keras.utils.Progbar(
            max(1, len(missing)) * self._points[-1],
            verbose=self._verbose,
            unit_name="step",
        )
        for name, make in makers.items():
            left = [seed for seed in seeds if (name, seed) in missing]
            if not left:
                continue
            followed = self._trainer.follow(make, "train", left, self._points)
            for seed, segments in zip(left, followed, strict=True):
                run = self._run(segments, bar)
                self._write(name, seed, descriptions[name], run)
                found[name, seed] = run
        return {
            name: {
                **descriptions[name],
                "runs": [found[name, seed] for seed in seeds],
            }
            for name in makers
        }

    def _run(self, segments, bar):
        """Returns the losses, the validations and the seconds of one run."""
        run = {"loss": [], "seconds": [], "validation": []}
        steps = np.diff([0, *self._points])
        for (seconds, trained), number in zip(segments, steps, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):
                run["loss"].append(float(trained.losses.mean()))
            run["seconds"].append(seconds)
            run["validation"].append(
                self._task.metrics(
                    trained.params, trained.non_trainable, "meta_valid"
                )
            )
            bar.add(int(number))
        return run

    def _path(self, name, seed):
        # Not one file for names that differ in other characters.
        safe = urllib.parse.quote(name, safe=" ")
        return self._folder / f"{safe}-{seed}.json"

    def _read(self, name, seed, description):
        if self._folder is None or not self._path(name, seed).exists():
            return None
        found = files.read_json(self._path(name, seed))
        if {*found} != {"name", "description", "run"}:
            raise ValueError(
                "The file of a run must not be changed. Received: other "
                f"content in {self._path(name, seed)}. Delete the file, so "
                "that the run is repeated."
            )
        of_now = files.from_json(files.to_json(description), name)
        if (found["name"], found["description"]) != (name, of_now):
            raise ValueError(
                "A comparison must continue with the same optimizers. "
                f"Received: another for {name!r} than in "
                f"{self._path(name, seed)}. Give it another name, or choose "
                "another `output_dir`."
            )
        return found["run"]

    def _write(self, name, seed, description, run):
        if self._folder is not None:
            content = {"name": name, "description": description, "run": run}
            files.write_json(self._path(name, seed), content)
