"""When a run of meta-training has gone wrong for good."""

import math

# Of so many in a row, not one is likely to be bad luck.
SKIPPED = 10
WORSE = 8


class MetaTrainingError(RuntimeError):
    """Meta-training that cannot succeed any more."""


def check(history):
    """Raises if a run had better be stopped.

    Args:
        history: Dict as in `keras_l2l.meta_training.MetaTrainingResult`.

    Raises:
        MetaTrainingError: if the last `SKIPPED` meta-steps were skipped, or
            the last `WORSE` validations were worse than the first one.
    """
    skipped = [entry["meta_step"] for entry in history["skipped"][-SKIPPED:]]
    taken = len(history["meta_loss"])
    if skipped == list(range(taken - SKIPPED, taken)):
        raise MetaTrainingError(
            "Meta-losses and meta-gradients must be finite. Received: "
            f"{SKIPPED} meta-steps in a row that were not, up to {skipped[-1]}."
            " Try a smaller meta_learning_rate or unroll_length; look at one "
            f"of them with --replay={skipped[0]}."
        )
    first, *later = [
        _finite_or_inf(entry["final_loss"])
        for entry in (history["validation"][0], *history["validation"][-WORSE:])
    ]
    if len(history["validation"]) > WORSE and all(x > first for x in later):
        raise MetaTrainingError(
            "Validation must become better than it was at the start. "
            f"Received: {WORSE} final losses in a row above the first, "
            f"{first:.4g}, the last of them {later[-1]:.4g}: meta-training "
            "has diverged. Try a smaller meta_learning_rate, a clipnorm, or a "
            "shorter horizon."
        )


def _finite_or_inf(value):
    return value if math.isfinite(value) else math.inf
