"""A short run of meta-training, for processes that are killed."""

import ctypes
import gc
import pathlib

import keras
import numpy as np
import tensorflow as tf

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import tasks
from keras_l2l.meta_training.history import Recorder


@keras.saving.register_keras_serializable(package="tests")
class UncompiledLSTM(keras_l2l.CoordinatewiseLSTM):
    """A small rule that starts quickly."""

    jit_compile = False

    def __init__(self):
        super().__init__(units=(4,))

    def get_config(self):
        return {}


def make_task():
    """Returns a task with a state of its own, of models drawn at random."""
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    return tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, activation="tanh"),
                keras.layers.Dropout(0.2),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        ),
        "mse",
        (x, x.sum(axis=1, keepdims=True) ** 2),
        batch_size=8,
    )


def train_quickly(output_dir, meta_steps):
    """Runs what starts in a second."""
    return train(output_dir, tasks.Quadratics(3), meta_steps=meta_steps)


def train(output_dir, task=None, **arguments):
    """Runs `meta_train` there, resuming what there is."""
    return keras_l2l.meta_train(
        UncompiledLSTM(),
        task or make_task(),
        output_dir,
        **{
            "horizon": 6,
            "estimator": estimators.TruncatedBackprop(unroll_length=2),
            "meta_batch_size": 2,
            "meta_optimizer": meta_training.MetaOptimizer(learning_rate=0.01),
            "meta_steps": 1500,
            "validation": meta_training.Validation(interval=20, episodes=2),
            "resume": True,
            "verbose": 0,
            **arguments,
        },
    )


def memory_after(output_dir, meta_steps):
    """Returns the memory in use, in kB, when so many were taken, of each."""
    record, found = Recorder.meta_step, {}

    def measured(self, meta_step, *arguments):
        record(self, meta_step, *arguments)
        if meta_step in meta_steps:
            found[meta_step] = _memory_in_use()

    Recorder.meta_step = measured
    train(output_dir, meta_steps=max(meta_steps) + 1)
    return found


def memory_of_constants(count):
    """Returns the memory, in kB, that eager constants keep once deleted."""
    tf.constant(0.0)
    before = _memory_in_use()
    for _ in range(count):
        tf.constant(0.0)
    return _memory_in_use() - before


def _memory_in_use():
    # What is freed may still be held by the collector or the allocator.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [x for x in status.splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1])
