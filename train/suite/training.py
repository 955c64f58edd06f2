"""One training run of `train.suite`, through Keras' `compile` and `fit`."""

import hashlib
import os
import statistics
import time

import keras
import tensorflow as tf

from keras_l2l.utils import files
from keras_l2l.utils.versions import versions
from train.suite import opponents

# Times that a model is evaluated in its training.
POINTS = 20


def config_of(task, make_optimizer):
    """Returns all that a run depends on, JSON-able; `None` if there is none.

    Args:
        task: `SuiteTask`.
        make_optimizer: Function of a task, as in `opponents.table`.
    """
    optimizer = make_optimizer(task)
    if optimizer is None:
        return None
    serialized = keras.optimizers.serialize(optimizer)
    # Keras numbers the names.
    config = {k: v for k, v in serialized["config"].items() if k != "name"}
    content = files.to_json({**serialized, "config": config})
    return {
        "task": task.get_config(),
        # Values of meta-parameters make it long.
        "optimizer": {
            "class_name": serialized["class_name"],
            "sha256": hashlib.sha256(content).hexdigest(),
        },
    }


def use_one_core(begun):
    """Keeps a process that has just begun to one core, where Linux can.

    XLA has threads of its own, which would take those of other processes.

    Args:
        begun: `multiprocessing.Value`, the number of processes before this one,
            each of which has another core, as long as there are so many.
    """
    with begun.get_lock():
        number = begun.value
        begun.value += 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)


def run(task, optimizer, presets, seed, path):
    """Trains a model and writes the result to a file.

    Args:
        task: `SuiteTask`.
        optimizer: String, a name in the table of opponents.
        presets: As for `opponents.table`.
        seed: Int.
        path: `Path` of a JSON file.
    """
    make_optimizer = opponents.find(optimizer, presets)
    config = config_of(task, make_optimizer)
    found = train(task, make_optimizer, seed)
    files.write_json(path, {"config": config, **found})


def train(task, make_optimizer, seed):
    """Trains a model and returns its curves, a JSON-able dict.

    Args:
        task: `SuiteTask`.
        make_optimizer: As for `config_of`.
        seed: Int. It determines the initial weights and the batches, which are
            the same for every optimizer.

    Returns:
        Dict of `steps`, `valid_loss` and `metric`, before the first step and
        `POINTS` times after it; `train_loss`, means between these times;
        `ms_per_step`, the median, without the first part; `params`, and
        `versions`.
    """
    keras.backend.clear_session()
    train_data, valid_data = task.data()
    keras.utils.set_random_seed(seed)
    model = task.model()
    metric, metrics = task.metric, None
    if callable(metric):
        metrics = [metric()]
        metric = metrics[0].name
    elif metric is not None and task.loss is not None:
        metrics = [metric]
    model.compile(
        *(make_optimizer(task) for _ in range(task.num_optimizers)),
        loss=task.loss,
        metrics=metrics,
    )
    first = model.evaluate(
        *valid_data,
        batch_size=task.validation_batch_size,
        verbose=0,
        return_dict=True,
    )
    every, clock = _interval(task.num_steps), _Clock()
    history = model.fit(
        _batches(train_data, task.batch_size, seed),
        steps_per_epoch=every,
        epochs=task.num_steps // every,
        validation_data=valid_data,
        validation_batch_size=task.validation_batch_size,
        callbacks=[clock],
        shuffle=False,  # It is.
        verbose=0,
    ).history
    return {
        "steps": list(range(0, task.num_steps + 1, every)),
        "train_loss": history["loss"],
        "valid_loss": [first["loss"], *history["val_loss"]],
        "metric_name": metric,
        "metric": metric and [first[metric], *history[f"val_{metric}"]],
        "ms_per_step": 1000 * statistics.median(clock.seconds[1:]) / every,
        "params": sum(int(v.numpy().size) for v in model.trainable_variables),
        "versions": versions(),
    }


def _interval(num_steps):
    interval = max(num_steps // POINTS, 1)
    if num_steps % interval or num_steps < 2:
        raise ValueError(
            f"The steps of a task must be a multiple of {POINTS}, or from 2 to "
            f"{POINTS}. Received: {num_steps}."
        )
    return interval


def _batches(examples, batch_size, seed):
    """Returns endless shuffled batches."""
    data = tf.data.Dataset.from_tensor_slices(examples).cache()
    data = data.shuffle(len(examples[0]), seed=seed).repeat()
    return data.batch(batch_size, drop_remainder=True).prefetch(2)


class _Clock(keras.callbacks.Callback):
    """Measures the training between validations, in `seconds`."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.seconds.append(time.perf_counter() - self._start)
