"""The loss that a Keras model is compiled with, as a pure function."""

import keras

from keras_l2l.utils import checks


class ModelLoss:
    """Computes what `compile(loss, loss_weights)` makes of outputs.

    It is Keras' own computation: sample weights, masks, losses by the name or
    place of an output, and their weights count as in `fit`. The model's own
    losses (regularizers, `add_loss`) are not in it.

    Args:
        loss, loss_weights: As for `keras.Model.compile`.
        output_names: List of the names of the model's outputs, or `None`.

    Raises:
        ValueError: if Keras knows no such loss.
    """

    def __init__(self, loss, loss_weights, output_names):
        try:
            found = keras.tree.map_structure(_get, loss)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`loss` must be what keras.Model.compile takes, such as "
                f'"mse". Received: {checks.shown(loss)}'
            ) from error
        if all(one is None for one in keras.tree.flatten(found)):
            raise ValueError(
                '`loss` must be a Keras loss, such as "mse". Received: '
                f"{checks.shown(loss)}"
            )
        self.loss, self.loss_weights = found, loss_weights
        # A model of nothing but the loss: `compute_loss` has no other parts.
        self._compiled = keras.Model(name="loss")
        self._compiled.output_names = output_names
        self._compiled.compile(loss=found, loss_weights=loss_weights)

    def build(self, outputs, y, sample_weight=None):
        """Assigns losses to outputs, by a batch of them."""
        self._compiled.compute_loss(
            y=y, y_pred=outputs, sample_weight=sample_weight
        )

    def __call__(self, outputs, y, sample_weight=None):
        """Returns the scalar loss of a batch."""
        # Keras also adds up the loss of each output. That is not kept.
        with keras.StatelessScope():
            return self._compiled.compute_loss(
                y=y, y_pred=outputs, sample_weight=sample_weight
            )


def _get(loss):
    # Keras itself chooses which, by the shapes.
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return loss
    return keras.losses.get(loss)
