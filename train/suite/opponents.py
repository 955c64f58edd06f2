"""The optimizers that `train.suite` compares, all of them in one table.

A function takes a `SuiteTask`, whose `num_steps` is the length of the training,
and returns a new optimizer, or `None` if the task has none of this kind.
"""

import functools

import keras
import numpy as np

import keras_l2l
from keras_l2l.evaluation.compare import warmup_cosine

# AdamW at its best rate is the one with the lowest validation loss at the end,
# on the reported seeds: this favours it.
ADAMW_RATES = (0.001, 0.003, 0.01, 0.03)
ADAMW_FIXED = "adamw 0.003"


def _adamw(rate, task):
    schedule = warmup_cosine(rate, task.num_steps)
    return keras.optimizers.AdamW(schedule, weight_decay=0.01)


def _muon(task):
    # Muon is for matrices. AdamW updates all else, with these: the output
    # layer, and biases of multi_head_attention, which have two axes.
    return keras.optimizers.Muon(
        warmup_cosine(0.003, task.num_steps),
        weight_decay=0.01,
        adam_weight_decay=0.01,
        exclude_layers=["head"],
    )


def _nadamw(task):
    # The calibrated point of AlgoPerf's self-tuning track.
    return keras.optimizers.Nadam(
        warmup_cosine(1.749e-3, task.num_steps),
        beta_1=0.9327,
        beta_2=0.99552,
        weight_decay=0.0812,
    )


def _schedule_free(task):
    # At Keras' rate and without its warmup, whose tiny steps would have the
    # same weight in the average as all others. Keras has no switch to the
    # averaged weights, so that the trained ones are evaluated.
    return keras.optimizers.ScheduleFreeAdamW(weight_decay=0.01)


def _example(task):
    return task.example_optimizer and task.example_optimizer()


def _default(task, learning_rate=1.0):
    optimizer = keras_l2l.LearnedOptimizer(learning_rate=learning_rate)
    optimizer.set_num_steps(task.num_steps, task.steps_per_epoch())
    return optimizer


def _fresh(task):
    rule = keras_l2l.LearnedOptimizer().rule
    return keras_l2l.LearnedOptimizer(
        rule=rule.for_num_steps(task.num_steps, task.steps_per_epoch())
    )


def _changed(change, task):
    """Returns the default after a change of its meta-parameters."""
    optimizer = keras_l2l.LearnedOptimizer()
    params = keras.tree.map_structure(np.array, optimizer.meta_params)
    change(params)
    changed = keras_l2l.LearnedOptimizer(
        rule=optimizer.rule, meta_params=params
    )
    changed.set_num_steps(task.num_steps, task.steps_per_epoch())
    return changed


def _no_decay(params):
    params["controls"]["decay"][:] = 0
    params["controls"]["decay"][0] = -30.0  # A logarithm.


def _one_for_all(control):
    def change(params):
        # The first is that of the signal 1.
        params["controls"][control][1:] = 0

    return change


def _no_slow(params):
    params["controls"]["slow"][:] = 0


def _no_scale(params):
    params["constants"]["scale_power"][...] = 0


def _no_limit(params):
    params["constants"]["limit"][...] = 10.0  # A logarithm.


def _converted(preset, options, task):
    return keras_l2l.LearnedOptimizer.from_preset(
        preset, num_steps=task.num_steps, **options
    )


OPPONENTS = {
    "default": _default,
    "default without length": lambda task: keras_l2l.LearnedOptimizer(),
    **{
        f"default at {rate}": functools.partial(_default, learning_rate=rate)
        for rate in (0.3, 0.1)
    },
    "fresh": _fresh,
    "adam": lambda task: keras.optimizers.Adam(),
    **{
        f"adamw {rate}": functools.partial(_adamw, rate) for rate in ADAMW_RATES
    },
    "muon": _muon,
    "nadamw": _nadamw,
    "schedule-free": _schedule_free,
    "example": _example,
}
# The default without one of its parts, which shows what the part is worth.
ABLATIONS = {
    name: functools.partial(_changed, change)
    for name, change in {
        "no weight decay": _no_decay,
        "one weight decay": _one_for_all("decay"),
        "one rate": _one_for_all("rate"),
        "no slow momentum": _no_slow,
        "one slow weight": _one_for_all("slow"),
        "no scale": _no_scale,
        "no limit": _no_limit,
    }.items()
}
# With published weights: the flag for the preset's folder, and the arguments of
# the rule. Their rates are those of their meta-training; Celo2 has warmup and a
# cosine, too.
CONVERTED = {
    "celo": ("celo", {}),
    "celo2": ("celo2", {}),
    "celo2 base": ("celo2", {"orthogonalize": False}),
}


def table(presets):
    """Returns all opponents, a dict from names to functions of a task.

    Args:
        presets: Dict from flags in `CONVERTED` to folders of presets. Without
            a folder, the opponent is left out.
    """
    converted = {
        name: functools.partial(_converted, presets[flag], options)
        for name, (flag, options) in CONVERTED.items()
        if flag in presets
    }
    return {**OPPONENTS, **ABLATIONS, **converted}
