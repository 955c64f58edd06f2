"""What users of other optimizers get wrong: refused, or warned of."""

import os
import warnings

import keras
from keras import ops

from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.rules import base
from keras_l2l.utils import backends
from keras_l2l.utils import checks

# A tenth of this rate is Adam's default.
_SMALL = 0.01
# Steps that a warm-up may take.
_STEPS = (0, 1, 10, 100, 1000, 10_000)
# Half of a weight is gone after 700 steps.
_STRONG_DECAY = 0.001


def check_arguments(learning_rate, arguments):
    """Raises if a preset or a rule was passed as something else.

    Args:
        learning_rate: The argument of `LearnedOptimizer`.
        arguments: Dict of arguments that it does not know.

    Raises:
        ValueError: with the right call.
    """
    if "preset" in arguments:
        raise ValueError(
            "A preset must be passed as `rule`. Received: preset="
            f"{checks.shown(arguments['preset'])}. Write "
            "LearnedOptimizer.from_preset(...) or LearnedOptimizer(rule=...)."
        )
    if isinstance(
        learning_rate,
        (str, os.PathLike, base.UpdateRule, presets.Preset),
    ):
        raise ValueError(
            "The first argument, `learning_rate`, must be a float, a schedule "
            f"or a function. Received: {checks.shown(learning_rate)}. For a "
            "preset, write LearnedOptimizer.from_preset(...); for a rule, "
            "LearnedOptimizer(rule=...). Presets in this package: "
            f"{', '.join(presets.shipped())}."
        )


def check_num_steps(num_steps, rule):
    """Returns the argument of `LearnedOptimizer`, an int or `None`.

    Args:
        num_steps: The argument.
        rule: `UpdateRule`, which may have a length of its own.

    Raises:
        ValueError: if it is neither, or not the rule's.
    """
    if num_steps is None:
        return None
    num_steps = checks.require_int("num_steps", num_steps)
    own = getattr(rule, "num_steps", None) or num_steps
    if own != num_steps:
        raise ValueError(
            "`num_steps` must be that of the rule, where it has one. Received: "
            f"num_steps={num_steps} and a rule with num_steps={own}. Leave it "
            "out here or there."
        )
    return num_steps


def is_learned(rule, meta_params):
    """Returns whether the natural learning rate of a rule is 1.0.

    Args:
        rule: `UpdateRule`.
        meta_params: Nest of its meta-parameters.
    """
    # A formula has a rate of its own, which 0.1 here may well scale down.
    formulas = (rules.SGD, rules.Momentum, rules.Adam)
    return bool(keras.tree.flatten(meta_params)) and not isinstance(
        rule, formulas
    )


def warn_of_small_rate(learning_rate):
    """Warns of learning rates that suit other optimizers.

    Args:
        learning_rate: As for `LearnedOptimizer`. Of a schedule, some steps up
            to 10,000 are looked at; a function is not called.
    """
    largest = _largest(learning_rate)
    if largest is not None and 0 < largest <= _SMALL:
        _warn(
            "The `learning_rate` of a learned optimizer must be about 1.0: it "
            "multiplies updates that already have their size. Received: "
            f"{largest:.3g}, with which a model hardly changes. Leave it out; "
            "to change a trained model less, as in fine-tuning, begin with "
            "0.1. Schedules and LearningRateScheduler must start from 1.0, or "
            "warm up to it."
        )


def warn_of_strong_decay(weight_decay, learning_rate):
    """Warns of a weight decay that suits the learning rates of Adam."""
    largest = _largest(learning_rate)
    if not weight_decay or largest is None:
        return
    if weight_decay * largest > _STRONG_DECAY:
        _warn(
            "`weight_decay` times `learning_rate` is the share of each weight "
            "that a step takes away, and must be small. Received: "
            f"weight_decay={weight_decay:g} at learning rates of up to "
            f"{largest:.3g}. AdamW's 0.004 at 0.001 is weight_decay=4e-6 here."
        )


def _warn(message):
    # At this line, whoever called: then Python shows it once in a process, and
    # not again for a copy of the optimizer.
    warnings.warn(message, stacklevel=1)


def _largest(learning_rate):
    """Returns the largest rate of a training, or `None` if unknown."""
    if isinstance(
        learning_rate, keras.optimizers.schedules.LearningRateSchedule
    ):
        try:
            with backends.outside_graphs():
                return max(
                    float(learning_rate(ops.convert_to_tensor(step, "int32")))
                    for step in _STEPS
                )
        except Exception:
            # One of the user's may only be defined for the steps it is for.
            return None
    return learning_rate if checks.is_number(learning_rate) else None
