"""`UpdateMonitor`: how large updates are, for each variable, while training."""

import math
import os
import typing

import keras
import numpy as np

from keras_l2l.callbacks import figure
from keras_l2l.callbacks import logs as logs_lib
from keras_l2l.callbacks.observer import Observer
from keras_l2l.optimizer import wrappers
from keras_l2l.optimizer.learned_optimizer import LearnedOptimizer
from keras_l2l.utils import backends
from keras_l2l.utils import checks
from keras_l2l.utils import nests


class UpdateMonitor(keras.callbacks.Callback):
    """Measures the updates of a learned optimizer during `fit`.

    It shows which variables do not move, or move too fast: a ratio of update
    to parameter of 1e-3 is usual, and Adam's with the same gradients stands
    beside it. The first step of a `fit` is measured, then one in `interval`;
    with `steps_per_execution`, the last such step of each execution.

    Every step follows Adam's moments of the gradients since `fit` began, which
    take 8 bytes per parameter. Nothing is computed in a `fit` without it.

    Args:
        interval: Int >= 1, steps from one measurement to the next. Defaults to
            100.
        log_dir: Path of a folder for TensorBoard, or `None`, the default, for
            no logs. It needs the package tensorboard.

    Attributes:
        history: Dict of lists with an entry for each measurement:

            - `step`: the step of the optimizer, from 1;
            - `skipped_steps`: steps so far with gradients that were NaN or
              infinite;
            - `handed_over`: the step at which a `Guarded` rule handed over to
              its fallback, or `None`;
            - `variables`: a dict from the path of each variable to a dict of
              lists: `param_rms`, `update_rms` and `adam_rms`, root mean
              squares; `update_ratio` and `adam_ratio`, the latter two by the
              first, which are infinite while a parameter is still 0; and
              `masked`, the share of coordinates that stay as they are: their
              gradients are NaN or infinite, or have always been 0.

            The history that `fit` returns has `update_ratio` and `adam_ratio`,
            the medians over variables of the last measurement before the end
            of each epoch.

    Raises:
        ValueError: in `fit`, if the model has no learned optimizer or several.

    Example:
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras_l2l.LearnedOptimizer(), loss="mse")
    >>> monitor = keras_l2l.callbacks.UpdateMonitor(interval=2)
    >>> history = model.fit(
    ...     np.ones((8, 3)),
    ...     np.ones((8, 1)),
    ...     batch_size=2,
    ...     callbacks=[monitor],
    ...     verbose=0,
    ... )
    >>> monitor.history["step"]
    [1, 3]
    """

    def __init__(
        self, interval: int = 100, log_dir: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__()
        self.interval = checks.require_int("interval", interval)
        self.history: dict[str, typing.Any] = {
            "step": [],
            "skipped_steps": [],
            "handed_over": [],
            "variables": {},
        }
        self._logs = logs_lib.Logs(log_dir)
        self._observer, self._batches = None, 0

    def on_train_begin(self, logs: dict[str, typing.Any] | None = None) -> None:
        optimizer = self._optimizer()
        self._observer, self._batches = Observer(self.interval), 0
        optimizer.attach(self._observer)
        # An earlier one has been traced without it.
        self.model.make_train_function(force=True)

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, typing.Any] | None = None
    ) -> None:
        self._earlier = self._batches

    def on_train_batch_end(
        self, batch: int, logs: dict[str, typing.Any] | None = None
    ) -> None:
        # The last of several, with `steps_per_execution`.
        before, self._batches = self._batches, self._earlier + batch + 1
        # JAX gives the state away only here, which takes time.
        # Keras 3.10 counts only the first of several.
        if (
            self.model.steps_per_execution > 1
            or (before - 1) // self.interval
            != (self._batches - 1) // self.interval
        ):
            self._record()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, typing.Any] | None = None
    ) -> None:
        self._record()
        if logs is not None and self.history["step"]:
            for name in ("update_ratio", "adam_ratio"):
                last = [v[name][-1] for v in self.history["variables"].values()]
                logs[name] = float(np.median(last))

    def on_train_end(self, logs: dict[str, typing.Any] | None = None) -> None:
        self._record()
        self._logs.close()
        self._optimizer().detach()
        self.model.train_function = None

    def plot(self, path: str | os.PathLike[str] | None = None) -> typing.Any:
        """Draws the ratios of all variables by step, beside Adam's.

        Args:
            path: Path of the figure to write, or `None`.

        Returns:
            `matplotlib.figure.Figure`, which a notebook shows.

        Raises:
            ImportError: without the package matplotlib.
            ValueError: if nothing has been measured.
        """
        return figure.draw(self.history, path)

    def _optimizer(self):
        found = wrappers.within(self.model.optimizer, LearnedOptimizer)
        if len(found) != 1:
            raise ValueError(
                "With UpdateMonitor, the model's optimizer must be or contain "
                "exactly one LearnedOptimizer. Received: "
                f"{self.model.optimizer!r}, with {len(found)} of them. Leave "
                "the callback out."
            )
        (optimizer,) = found
        return optimizer

    def _record(self):
        """Adds the last measurement to the history, unless it is there."""
        optimizer, steps = self._optimizer(), self.history["step"]
        found = self._observer.read()
        if found is None or found[0] in steps[-1:]:
            return
        step, rows = found
        steps.append(step)
        of_all = {
            "skipped_steps": backends.number(optimizer.skipped_steps),
            "handed_over": _handed_over(optimizer),
        }
        for name, value in of_all.items():
            self.history[name].append(value)
        self._logs.write(None, of_all, step)
        for variable, row in zip(
            self._observer.observed, rows.tolist(), strict=True
        ):
            path = getattr(variable, "path", variable.name)
            lists = self.history["variables"].setdefault(path, {})
            measured = _named(*row)
            for name, value in measured.items():
                lists.setdefault(name, []).append(value)
            self._logs.write(path, measured, step)


def _named(param, update, adam, masked):
    return {
        "param_rms": param,
        "update_rms": update,
        "adam_rms": adam,
        "update_ratio": _ratio(update, param),
        "adam_ratio": _ratio(adam, param),
        "masked": masked,
    }


def _ratio(update, param):
    if param:
        return update / param
    # A bias is 0 at first.
    return math.inf if update else 0.0


def _handed_over(optimizer):
    """Returns the step of a guard's hand-over, or `None`."""
    steps = [
        int(backends.number(leaf))
        for part in optimizer.state_parts()
        for path, leaf in nests.named_leaves(part)
        if path.endswith("monitor/handed_over")
    ]
    return max(steps, default=0) or None
