"""Trains tasks with Keras optimizers."""

import itertools
import time
import typing

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import checks


class Trained(typing.NamedTuple):
    """Result of one training run.

    Attributes:
        losses: Array `[horizon / block]`, the loss after each update, averaged
            over each block.
        params: List of arrays, the trained parameters.
        non_trainable: List of tensors as returned by `Task.stateful_loss`.
    """

    losses: np.ndarray
    params: list
    non_trainable: list


class Trainer:
    """Trains a task with optimizers, each of which is traced only once.

    Args:
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps.
        block: Int, a divisor of `horizon`. Losses are averaged over this number
            of inner steps.
        progress: `keras.utils.Progbar` of training runs, or `None`.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.
    """

    def __init__(self, task, horizon, block=1, progress=None):
        check_task(task)
        horizon = checks.require_int("horizon", horizon)
        block = checks.require_int("block", block)
        if horizon % block:
            raise ValueError(
                "`block` must divide `horizon`. Received: "
                f"horizon={horizon}, block={block}."
            )
        self._task = task
        self._horizon = horizon
        self._block = block
        self._progress = progress
        self._traced = {}

    def curves(self, make_optimizer, split, seeds):
        """Returns training curves; see `evaluation.training_curves`."""
        trained = self.train(make_optimizer, split, seeds)
        return np.stack([one.losses for one in trained])

    def results(self, make_optimizer, split, seeds):
        """Returns training curves, and a dict of final metrics per seed.

        The metrics are those of another split than `split`, which is part of
        their names, as in `"test_accuracy"`.

        Args:
            make_optimizer, split, seeds: As for `curves`.
        """
        held_out = "meta_valid" if split == "test" else "test"
        curves, metrics = [], []
        for seed, one in zip(
            seeds, self.train(make_optimizer, split, seeds), strict=True
        ):
            task = self._task.sample(split_seed(split, int(seed)))
            curves.append(one.losses)
            found = task.metrics(one.params, one.non_trainable, held_out)
            metrics.append({f"{held_out}_{k}": v for k, v in found.items()})
        return np.stack(curves), metrics

    def train(self, make_optimizer, split, seeds):
        """Yields a `Trained` for each seed.

        Args:
            make_optimizer, split, seeds: As for `curves`.
        """
        points = [self._horizon]
        for ((_, one),) in self.follow(make_optimizer, split, seeds, points):
            losses = one.losses.reshape(-1, self._block)
            # NumPy must not warn of losses that have diverged.
            with np.errstate(over="ignore", invalid="ignore"):
                losses = losses.mean(axis=1)
            if self._progress is not None:
                self._progress.add(1)
            yield one._replace(losses=losses)

    def follow(self, make_optimizer, split, seeds, points):
        """Yields for each seed what its training is at some steps.

        Args:
            make_optimizer, split, seeds: As for `curves`.
            points: Increasing ints, the last of which is the horizon.

        Yields:
            Iterator of pairs of the seconds since the point before and a
            `Trained`, with the losses since then. It must be exhausted before
            the next. The seconds of what is traced include tracing.
        """
        seeds = [
            tf.constant(split_seed(split, seed), tf.int64)
            for seed in checks.require_seeds("seeds", seeds)
        ]
        optimizer = new_optimizer(make_optimizer)
        variables = self._task.variables()
        optimizer.build(variables)
        start = [v.numpy() for v in optimizer.variables]
        # A configuration need not contain all that the function has set.
        function = getattr(make_optimizer, "func", make_optimizer)
        key = split, function, _all_but_the_learning_rate(optimizer)
        if key[-1] is None or key not in self._traced:
            self._traced[key] = (
                optimizer,
                variables,
                self._run(optimizer, variables, split),
            )
        optimizer, variables, run = self._traced[key]
        for seed in seeds:
            task = self._task.sample(seed)
            for v, value in zip(variables, task.init_params(seed), strict=True):
                v.assign(value)
            for v, value in zip(optimizer.variables, start, strict=True):
                v.assign(value)
            yield self._segments(run, seed, variables, points)

    def _segments(self, run, seed, variables, points):
        non_trainable = self._task.sample(seed).init_non_trainable(seed)
        for first, last in itertools.pairwise([0, *points]):
            begin = time.perf_counter()
            losses, non_trainable = run(
                seed,
                non_trainable,
                *(tf.constant(step, tf.int64) for step in (first, last)),
            )
            losses = losses.numpy()
            seconds = time.perf_counter() - begin
            params = [v.numpy() for v in variables]
            yield seconds, Trained(losses, params, non_trainable)

    def _run(self, optimizer, variables, split):
        """Returns a function that trains `variables` and returns losses."""
        # As in the unroll, since half precision would round losses.
        dtype = "float64" if variables[0].dtype == "float64" else "float32"

        @tf.function(autograph=False)
        def run(seed, non_trainable, first, last):
            task = self._task.sample(seed)
            batches = task.batches(split, seed)

            def stateful_loss(step, non_trainable):
                loss, non_trainable = task.stateful_loss(
                    [v.value for v in variables], non_trainable, batches(step)
                )
                return tf.cast(loss, dtype), non_trainable

            def body(step, losses, non_trainable):
                with tf.GradientTape() as tape:
                    loss, non_trainable = stateful_loss(step, non_trainable)
                    scaled = optimizer.scale_loss(loss)
                gradients = tape.gradient(scaled, [v.value for v in variables])
                optimizer.apply(gradients, variables)
                losses = losses.write(tf.cast(step - first, tf.int32), loss)
                return step + 1, losses, non_trainable

            losses = tf.TensorArray(
                dtype, tf.cast(last - first, tf.int32), element_shape=[]
            )
            step, losses, trained = tf.while_loop(
                lambda step, *_: step < last,
                body,
                (first, losses, non_trainable),
            )
            # The loop saw the losses before each update: shift them by one.
            final, _ = stateful_loss(step, trained)
            return tf.concat([losses.stack()[1:], final[None]], 0), trained

        # TensorFlow would warn, since each optimizer is traced once.
        run._omit_frequent_tracing_warning = True
        return run


def _all_but_the_learning_rate(optimizer):
    """Returns a key that is equal for optimizers that share a traced function.

    It is `None` for optimizers that are not Keras' own, whose configuration
    may be incomplete.
    """
    if not type(optimizer).__module__.startswith("keras."):
        return None
    config = optimizer.get_config()
    del config["name"]  # Keras numbers them.
    if isinstance(config["learning_rate"], float):  # Else it is a schedule.
        del config["learning_rate"]
    return type(optimizer), repr(config)


def new_optimizer(make_optimizer):
    """Returns what the function returns, or raises ValueError."""
    require_function(make_optimizer)
    optimizer = make_optimizer()
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "`make_optimizer` must return a new keras.optimizers.Optimizer."
            f" Received: {checks.shown(optimizer)}"
        )
    return optimizer


def require_function(make_optimizer, name="make_optimizer"):
    """Raises ValueError unless `make_optimizer` can be called."""
    if not callable(make_optimizer):
        raise ValueError(
            f"`{name}` must be a function that returns a new "
            "keras.optimizers.Optimizer, or a class of them. Received: "
            f"{checks.shown(make_optimizer)}. Pass lambda: "
            "keras.optimizers.Adam(0.01), for example."
        )
