"""The optimizers that `train.suite` compares, all of them in one table.

A function takes a `SuiteTask`, whose `num_steps` is the length of the training,
and returns a new optimizer, or `None` if the task has none of this kind.
"""

import functools

import keras
import numpy as np

import keras_l2l
from keras_l2l.evaluation.compare import warmup_cosine
from keras_l2l.rules import momentum_mixture

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


def changed(change, told, task):
    """Returns the default after a change of its meta-parameters.

    Args:
        change: Function that changes a nest of arrays; or a string such as
            `"decay.one=2 slow.fall=-1 schedule.power=1"`, new values of
            controls by signals, and of other meta-parameters.
        told: Bool, whether it is told the length of the training.
        task: `SuiteTask`.

    Raises:
        ValueError: if a name in the string is none of a meta-parameter.
    """
    optimizer = keras_l2l.LearnedOptimizer()
    params = keras.tree.map_structure(np.array, optimizer.meta_params)
    if not callable(change):
        change = functools.partial(_set, change)
    change(params)
    found = keras_l2l.LearnedOptimizer(rule=optimizer.rule, meta_params=params)
    if told:
        found.set_num_steps(task.num_steps, task.steps_per_epoch())
    return found


def _set(change, params):
    """Sets meta-parameters to what a string says; see `changed`."""
    arrays = {
        **params,
        **{
            control: {
                # Views of an array's elements.
                signal: weights[i : i + 1]
                for i, signal in enumerate(momentum_mixture.SIGNALS)
            }
            for control, weights in params["controls"].items()
        },
    }
    for part in change.split():
        name, _, value = part.partition("=")
        group, _, name_in_group = name.partition(".")
        try:
            arrays[group][name_in_group][...] = float(value)
        except (KeyError, TypeError, ValueError) as error:
            groups = ", ".join(k for k in arrays if k != "controls")
            raise ValueError(
                "A change must consist of parts such as decay.one=2, with one "
                f"of {groups} and a name in it. Received: {part}."
            ) from error


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
    name: functools.partial(changed, change, True)
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


def find(name, presets):
    """Returns the function of a task that makes an optimizer.

    Args:
        name: String in `table(presets)`, or `"default: CHANGE"` or `"default
            without length: CHANGE"` with a change as for `changed`.
        presets: As for `table`.
    """
    base, _, change = name.partition(": ")
    if change:
        return functools.partial(changed, change, base == "default")
    return table(presets)[name]
