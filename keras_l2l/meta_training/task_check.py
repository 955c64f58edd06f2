"""Checks a task before hours of meta-training are spent on it."""

import dataclasses
import inspect
import math
import resource
import statistics
import time
import typing
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.meta_training.meta_train import meta_train
from keras_l2l.meta_training.options import RunOptions
from keras_l2l.meta_training.setup import make_run
from keras_l2l.rules import Adam
from keras_l2l.rules import UpdateRule
from keras_l2l.rules import gradients as gradients_lib
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import nests
from keras_l2l.utils.divergence import inf_if_diverged

_LEARNING_RATES = (0.001, 0.01, 0.1)
_META_STEPS = 5
_BATCHES = 8
_HUGE = 1e4


def inspect_task(
    rule: UpdateRule,
    task: TaskFamily | Sequence[TaskFamily],
    **arguments: typing.Any,
) -> dict[str, typing.Any]:
    """Trains with plain Adam, takes a few meta-steps, and reports on both.

    Args:
        rule: `UpdateRule`.
        task: `Task` or `TaskFamily`; of a list, the first is looked at.
        **arguments: Options of `meta_train`.

    Returns:
        JSON-able dict:

        - `params`: the number of optimizee parameters.
        - `adam`: the best of three learning rates, and the losses before and
          after `horizon` inner steps with it, on the same few batches.
        - `gradients`: at the start and at the end of Adam's training, the
          share of coordinates that are 0, the median and the largest size of
          the others and, for a rule with `log_and_sign`, the share of all
          coordinates in its logarithmic branch.
        - `meta_losses` and `meta_gradient_norms` of the meta-steps.
        - `seconds`: of the first meta-step, of a later one, of a validation,
          and of the whole run as expected from them.
        - `peak_memory_mb`: resident, of this process.
        - `remarks`: a list of what looks wrong.

    Raises:
        TypeError: if an argument is unknown.
        ValueError: as `meta_train` does.
    """
    options = _options(arguments)
    run = make_run(rule, task, options)
    seed = tf.constant(split_seed("train", 0), tf.int64)
    estimator = run.estimators[0]
    task = estimator.task.sample(seed)
    start = unroll_lib.init_carry(estimator.rule, task, seed)
    rate, end = _train_with_adam(task, seed, options.horizon)
    report = {
        "params": nests.count_params(start.params),
        "adam": {
            "learning_rate": rate,
            "loss_before": _loss(task, seed, start),
            "loss_after": _loss(task, seed, end),
        },
        "gradients": {
            "start": _sizes(task, seed, start, rule),
            "end": _sizes(task, seed, end, rule),
        },
        **_take_meta_steps(run, options),
        "peak_memory_mb": _peak_memory_mb(),
    }
    return {**report, "remarks": _remarks(report)}


def _options(arguments):
    """Returns the `RunOptions` that arguments of `meta_train` are."""
    call = inspect.signature(meta_train).bind(None, None, None, **arguments)
    call.apply_defaults()
    return RunOptions(
        **{
            field.name: call.arguments[field.name]
            for field in dataclasses.fields(RunOptions)
        }
    )


def _train_with_adam(task, seed, horizon):
    """Returns the best of some learning rates, and the carry at its end."""
    found = []
    for learning_rate in _LEARNING_RATES:
        rule = Adam(learning_rate)
        _, carry = tf.function(unroll_lib.unroll, autograph=False)(
            rule,
            task,
            rule.init_meta_params(0),
            unroll_lib.init_carry(rule, task, seed),
            task.batches("train", seed),
            horizon,
        )
        loss = inf_if_diverged(_loss(task, seed, carry))
        found.append((loss, learning_rate, carry))
    _, learning_rate, carry = min(found, key=lambda f: f[0])
    return learning_rate, carry


def _loss(task, seed, carry):
    """Returns the mean loss on some batches, always the same ones."""
    batches = task.batches("train", seed)
    losses = [
        task.stateful_loss(
            carry.params,
            carry.non_trainable,
            batches(tf.constant(step, tf.int64)),
        )[0]
        for step in range(_BATCHES)
    ]
    return float(tf.reduce_mean(losses))


def _sizes(task, seed, carry, rule):
    """Returns how large the coordinates of a gradient are."""
    params = carry.params
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss, _ = task.stateful_loss(
            params,
            carry.non_trainable,
            task.batches("train", seed)(tf.constant(0, tf.int64)),
        )
    gradients = tape.gradient(loss, params)
    sizes = np.concatenate(
        [
            np.abs(gradients_lib.dense(g, p.shape)).ravel()
            for g, p in zip(gradients, params, strict=True)
        ]
    )
    nonzero = sizes[sizes != 0]
    found = {
        "share_of_zeros": float(np.mean(sizes == 0)),
        "median": float(np.median(nonzero)) if nonzero.size else 0.0,
        "largest": float(sizes.max()),
    }
    if getattr(rule, "preprocessing", None) == "log_and_sign":
        found["share_in_log_branch"] = float(
            np.mean(sizes >= math.exp(-rule.p))
        )
    return found


def _take_meta_steps(run, options):
    results, seconds = [], []
    for meta_step in range(_META_STEPS):
        start = time.perf_counter()
        results.append(run.meta_step(meta_step))
        seconds.append(time.perf_counter() - start)
    run.validate()  # Traces.
    start = time.perf_counter()
    run.validate()
    validation = time.perf_counter() - start
    first, later = seconds[0], statistics.median(seconds[1:])
    meta_steps = options.meta_steps
    validations = 1 + math.ceil(meta_steps / options.validation.interval)
    return {
        "meta_losses": [r.meta_loss for r in results],
        "meta_gradient_norms": [r.meta_gradient_norm for r in results],
        "seconds": {
            "first_meta_step": first,
            "meta_step": later,
            "validation": validation,
            "whole_run": first + meta_steps * later + validations * validation,
        },
    }


def _peak_memory_mb():
    # In kB on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _remarks(report):
    """Returns what the numbers say is wrong."""
    adam, gradients = report["adam"], report["gradients"]
    remarks = []
    if not adam["loss_after"] < adam["loss_before"]:
        remarks.append(
            "Adam does not make the loss fall: look for a bug in the task, or "
            "for labels that do not belong to their inputs."
        )
    for when, sizes in gradients.items():
        if not sizes["largest"] < _HUGE:
            remarks.append(
                f"Gradients are huge at the {when}: scale the inputs or the "
                "loss."
            )
        if sizes["share_of_zeros"] > 0.5:
            remarks.append(
                f"More than half of the gradient is 0 at the {when}: look for "
                "dead units, unused parameters and inputs that are constant."
            )
        if sizes.get("share_in_log_branch", 1.0) < 0.1:
            remarks.append(
                f"Almost all of the gradient is below exp(-p) at the {when}: "
                "the rule sees hardly more than its sign. Give it a larger p."
            )
    norms = report["meta_gradient_norms"]
    if min(report["meta_losses"]) == -math.inf:
        remarks.append(
            'Meta-losses are -inf: with loss_weights="log", losses must not '
            "be negative."
        )
    elif not np.isfinite(norms).all():
        remarks.append(
            "Meta-gradients are not finite: take a smaller unroll_length."
        )
    elif max(norms) == 0:
        remarks.append(
            "Meta-gradients are 0: the rule's meta-parameters do not reach "
            "the loss."
        )
    elif max(norms) > _HUGE:
        remarks.append(
            "Meta-gradients are huge: keep a clipnorm, and try a smaller "
            "unroll_length."
        )
    return remarks
