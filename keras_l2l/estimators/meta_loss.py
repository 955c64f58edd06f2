"""How the losses of an unroll make the meta-loss."""

import math
import typing

import tensorflow as tf

from keras_l2l.utils import checks

# Added to losses before their logarithm: else tasks whose losses go to 0 would
# be all that counts in the end.
SMALLEST = 0.001
Named = typing.Literal["sum", "mean", "last", "log"]


class MetaLoss:
    """A weighted sum of the losses of an unroll, or of their logarithms.

    Args:
        loss_weights: `"sum"` for the sum, `"mean"` for the mean, `"last"` for
            the last loss of each unroll, `"log"` for the mean of the
            logarithms of `loss + 0.001`, or a list of `horizon` finite floats,
            the paper's w. With `"log"`, tasks with small losses count as much
            as others; the meta-loss is -inf if a loss is too low for it.
        horizon: Int, inner steps in an episode.
        unroll_length: Int, inner steps per meta-gradient.

    Raises:
        ValueError: if `loss_weights` are something else.
    """

    def __init__(self, loss_weights, horizon, unroll_length):
        weights = checked(loss_weights, horizon)
        self._log = weights == "log"
        if isinstance(weights, str):
            of_an_unroll = _of_an_unroll(weights, unroll_length)
            weights = of_an_unroll * (horizon // unroll_length)
        self._weights = weights

    def of(self, losses, start):
        """Returns the meta-loss, and its derivatives by the losses.

        Args:
            losses: Tensor `[..., unroll_length]`.
            start: Scalar integer tensor, inner steps before the unroll.

        Returns:
            Tuple of a tensor `[...]` and one like `losses`.
        """
        weights = tf.constant(self._weights, losses.dtype)
        # Not a slice: XLA would compile anew for each start.
        steps = tf.cast(start, tf.int32) + tf.range(losses.shape[-1])
        weights = tf.gather(weights, steps)
        if self._log:
            losses = tf.maximum(losses + SMALLEST, 0)
            return (
                tf.reduce_sum(weights * tf.math.log(losses), axis=-1),
                weights / losses,
            )
        return (
            tf.reduce_sum(weights * losses, axis=-1),
            tf.broadcast_to(weights, tf.shape(losses)),
        )


def logarithm(losses):
    """Returns the logarithms that `"log"` stands for; of too low ones, -inf."""
    return tf.math.log(tf.maximum(losses + SMALLEST, 0))


def refuse_negative(loss):
    """Raises the ValueError that tells of a loss too low for `"log"`.

    Args:
        loss: What to say of it: a float or a string.
    """
    raise ValueError(
        '`loss_weights` must not be "log" for a task whose losses can be '
        f"negative: above -{SMALLEST} alone they have a logarithm. Received: a "
        f'loss of {loss}. Pass loss_weights="mean", or add a constant to the '
        "loss of the task."
    )


def checked(loss_weights, horizon=None):
    """Returns the name or the list of floats that `loss_weights` are.

    Args:
        loss_weights: As for `MetaLoss`.
        horizon: Int, how many floats there must be; `None` for any number.

    Raises:
        ValueError: if they are something else.
    """
    names = typing.get_args(Named)
    if isinstance(loss_weights, str) and loss_weights in names:
        return loss_weights
    if (
        isinstance(loss_weights, (list, tuple))
        and len(loss_weights) == (horizon or len(loss_weights))
        and all(checks.is_number(w) and math.isfinite(w) for w in loss_weights)
    ):
        return [float(w) for w in loss_weights]
    length = "" if horizon is None else f", horizon={horizon}"
    raise ValueError(
        f"`loss_weights` must be {', '.join(names)} or a list of `horizon` "
        "finite floats. Received: "
        f"loss_weights={checks.shown(loss_weights)}{length}"
    )


def _of_an_unroll(name, unroll_length):
    """Returns a list of `unroll_length` floats."""
    if name == "sum":
        return [1.0] * unroll_length
    if name == "last":
        return [0.0] * (unroll_length - 1) + [1.0]
    return [1 / unroll_length] * unroll_length
