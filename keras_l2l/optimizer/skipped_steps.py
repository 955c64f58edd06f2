"""The count of steps that NaN or infinite gradients spoil."""

import keras
from keras import ops

from keras_l2l.utils import backends


def skips(gradients):
    """Returns whether any gradient is NaN or infinite, a scalar bool tensor.

    Args:
        gradients: List of tensors, `tf.IndexedSlices` or `None`.
    """
    finite = [
        # Of a sparse gradient, the rows that are there.
        ops.all(ops.isfinite(g.values if hasattr(g, "dense_shape") else g))
        for g in gradients
        if g is not None
    ]
    return ops.logical_not(ops.all(ops.stack(finite)))


def are_surely_finite(gradients):
    """Returns whether all gradients are finite, if a look is cheap; or `False`.

    On PyTorch without a GPU nothing has to be waited for. To know that there is
    nothing to mask then saves a third of the update.

    Args:
        gradients: As for `skips`.
    """
    if keras.backend.backend() != "torch":
        return False
    import torch

    found = [g for g in gradients if g is not None]
    if torch.compiler.is_compiling() or any(
        g.device.type != "cpu" for g in found
    ):
        return False
    # A sum takes one pass, and is not finite if any of it is not.
    sums = torch.stack([g.detach().sum(dtype=torch.float32) for g in found])
    return bool(torch.isfinite(sums).all())


def remarks(optimizer, skipped_steps):
    """Returns what to tell of skipped steps, a list of at most one string.

    Args:
        optimizer: `keras.optimizers.Optimizer`, which may clip gradients.
        skipped_steps: Int variable, the count.
    """
    steps = backends.number(skipped_steps)
    if not steps:
        return []
    effect = "Coordinates of such a gradient were left as they are."
    if optimizer.clipnorm:
        effect += (
            " With clipnorm, all others of their variable had a gradient of "
            "NaN, or of 0 if it was infinite."
        )
    elif optimizer.global_clipnorm:
        effect = "With global_clipnorm, all of the model was left as it is."
    return [
        f"Steps with gradients that are NaN or infinite, so far: {steps}. "
        f"{effect}"
    ]
