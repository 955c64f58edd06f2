"""Stops runs of meta-training that can no longer succeed."""

from keras_l2l.utils.divergence import inf_if_diverged

# Of so many in a row, not one is likely to be bad luck.
SKIPPED = 10
WORSE = 8


class MetaTrainingError(RuntimeError):
    """Meta-training that can no longer succeed."""


def check(history):
    """Raises if a run should be stopped.

    Args:
        history: Dict as in
            `keras_l2l.meta_training.meta_train.MetaTrainingResult`.

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
            " Try a smaller meta-learning rate or unroll_length; look at one "
            f"of them with --replay={skipped[0]}."
        )
    first, *later = [
        float(inf_if_diverged(entry["final_loss"]))
        for entry in (history["validation"][0], *history["validation"][-WORSE:])
    ]
    if len(history["validation"]) > WORSE and all(x > first for x in later):
        raise MetaTrainingError(
            "Validation must become better than it was at the start. "
            f"Received: {WORSE} final losses in a row above the first, "
            f"{first:.4g}, the last of them {later[-1]:.4g}: meta-training "
            "has diverged. Try a smaller meta-learning rate, a clipnorm, or a "
            "shorter horizon."
        )


def check_result(best_loss):
    """Raises if a run has ended without anything to keep.

    Args:
        best_loss: Float, the lowest final loss of all validations; inf if
            none of them was finite.

    Raises:
        MetaTrainingError: then.
    """
    if best_loss == float("inf"):
        raise MetaTrainingError(
            "At least one validation must have a finite final loss. Received: "
            "a run in which all have diverged, so that there is no preset. Try "
            "a shorter horizon, or meta-parameters that are closer to 0."
        )
