"""How meta-training scales over workers."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import socket
import statistics

import keras
import tensorflow as tf

from keras_l2l.meta_training import Curriculum
from keras_l2l.meta_training import meta_step
from keras_l2l.meta_training.curriculum import EpisodeLengths
from keras_l2l.meta_training.replicas import Replicas
from train.benchmarks import meta_training
from train.benchmarks import timing

# Numbers that an all-reduce carries: those of the paper's LSTM.
_META_PARAMS = 5141
_EPISODES = (1, 8)
# All-reduces wait more than they compute, so more workers than cores tell.
_MEASURED = (1, 2, 4, 8)


def scaling(repeats):
    """Returns rows by number of workers and episodes of each.

    A worker is a process with one core. Measured are the all-reduce of the
    meta-gradient and, where each worker has a core to itself, meta-steps.
    """
    cores = sorted(os.sched_getaffinity(0))
    all_reduce, steps = {}, {}
    for workers in _MEASURED:
        episodes = _EPISODES if workers <= len(cores) else ()
        all_reduce[workers], steps[workers] = run_workers(
            workers, cores, episodes, repeats
        )
    rows = [
        _row(workers, None, seconds, None, None)
        for workers, seconds in all_reduce.items()
        if not steps[workers]
    ]
    for episodes in _EPISODES:
        alone = steps[1][episodes]
        rows += [
            _row(w, episodes, all_reduce[w], s[episodes], alone)
            for w, s in steps.items()
            if s
        ]
    return rows


def _row(workers, episodes, all_reduce, meta_step, alone):
    step = meta_step is not None
    return {
        "workers": workers,
        "episodes_each": episodes,
        "all_reduce_ms": 1e3 * all_reduce,
        "meta_step_ms": 1e3 * meta_step if step else None,
        "episodes_per_s": workers * episodes / meta_step if step else None,
        "efficiency": alone / meta_step if step else None,
    }


def run_workers(number, cores, episodes, repeats):
    """Returns seconds of an all-reduce, and a dict of those of meta-steps.

    Args:
        number: Int, local processes.
        cores: List of ints, which they share.
        episodes: Ints, episodes of each worker in a meta-step.
        repeats: Int, medians of this many.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    with concurrent.futures.ProcessPoolExecutor(
        number, multiprocessing.get_context("spawn")
    ) as pool:
        found = [
            pool.submit(
                _worker,
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                },
                cores[index % len(cores)],
                episodes,
                repeats,
            )
            for index in range(number)
        ]
        # Of all, so that the error of any of them is raised.
        return [each.result() for each in found][0]


def _worker(tf_config, core, episodes, repeats):
    os.environ["TF_CONFIG"] = json.dumps(tf_config)
    os.sched_setaffinity(0, {core})
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    replicas = Replicas(strategy)
    return _all_reduce_seconds(replicas, repeats), {
        each: _meta_step_seconds(replicas, each, repeats) for each in episodes
    }


def _all_reduce_seconds(replicas, repeats, calls=50):
    vector = tf.ones(_META_PARAMS)
    divided = replicas.divide(lambda i: i, [0] * replicas.number)

    @tf.function(autograph=False)
    def reduce():
        (total,), _ = replicas.sum(lambda items: ([vector], items), divided)
        return total

    return _median_seconds(lambda: reduce().numpy(), repeats, calls)


def _meta_step_seconds(replicas, episodes, repeats):
    estimator = meta_training.mlp_estimator(784, horizon=100, unroll_length=20)
    run = meta_step.MetaRun(
        replicas,
        [estimator],
        keras.optimizers.Adam(0.001),
        meta_batch_size=replicas.number * episodes,
        validation=None,
        lengths=EpisodeLengths(Curriculum(), 100, 20, meta_steps=1),
        seed=0,
    )
    # With the start of new episodes, which is in every fifth.
    return _median_seconds(lambda: run.meta_step(0), repeats, calls=5)


def _median_seconds(run, repeats, calls):
    run()  # Traces; and all workers start together.
    return statistics.median(timing.seconds(run, calls) for _ in range(repeats))
