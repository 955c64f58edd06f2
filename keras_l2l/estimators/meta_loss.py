"""How the losses of an unroll make the meta-loss."""

import math

import tensorflow as tf

from keras_l2l.utils import checks

# Added to losses before their logarithm: else tasks whose losses go to 0 would
# be all that counts in the end.
SMALLEST = 0.001


class MetaLoss:
    """A weighted sum of the losses of an unroll, or of their logarithms.

    Args:
        loss_weights: `"sum"`, all losses count; `"mean"`, all of them by
            `1 / unroll_length`; `"last"`, the last of each unroll; `"log"`,
            those of 0.001 more, by `1 / unroll_length`, so that small losses
            and tasks of small losses count as much as others (where one is
            too low for that, the meta-loss is -inf); or a list of `horizon`
            finite floats, the paper's w.
        horizon: Int, inner steps in an episode.
        unroll_length: Int, inner steps per meta-gradient.

    Raises:
        ValueError: if `loss_weights` are something else.
    """

    def __init__(self, loss_weights, horizon, unroll_length):
        self._log = isinstance(loss_weights, str) and loss_weights == "log"
        self._weights = _weights(
            "mean" if self._log else loss_weights, horizon, unroll_length
        )

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


def _weights(loss_weights, horizon, unroll_length):
    """Returns a list of `horizon` floats."""
    of_an_unroll = {
        "sum": [1.0] * unroll_length,
        "mean": [1 / unroll_length] * unroll_length,
        "last": [0.0] * (unroll_length - 1) + [1.0],
    }
    if isinstance(loss_weights, str) and loss_weights in of_an_unroll:
        return of_an_unroll[loss_weights] * (horizon // unroll_length)
    if (
        isinstance(loss_weights, (list, tuple))
        and len(loss_weights) == horizon
        and all(checks.is_number(w) and math.isfinite(w) for w in loss_weights)
    ):
        return [float(w) for w in loss_weights]
    raise ValueError(
        f"`loss_weights` must be {', '.join(of_an_unroll)}, log or a list of "
        f"horizon={horizon} finite floats. Received: "
        f"loss_weights={checks.shown(loss_weights)}"
    )
