"""The loss of a compiled Keras model, as a pure function."""

import keras

from keras_l2l.utils import checks


class ModelLoss:
    """The loss of outputs under `compile(loss, loss_weights)`.

    Keras itself computes it. Sample weights, masks, losses by the name or the
    position of an output, and their weights count as in `fit`. The model's own
    losses (regularizers, `add_loss`) are not included.

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
        # This model has no other losses, so `compute_loss` adds nothing.
        self._compiled = keras.Model(name="loss")
        self._compiled.output_names = output_names
        self._compiled.compile(loss=found, loss_weights=loss_weights)

    def build(self, outputs, y, sample_weight=None):
        """Builds Keras' losses from one batch of outputs."""
        self._compiled.compute_loss(
            y=y, y_pred=outputs, sample_weight=sample_weight
        )

    def __call__(self, outputs, y, sample_weight=None):
        """Returns the scalar loss of a batch."""
        # Keras also tracks the mean loss of each output, which is dropped.
        with keras.StatelessScope():
            return self._compiled.compute_loss(
                y=y, y_pred=outputs, sample_weight=sample_weight
            )


def _get(loss):
    # Keras chooses the kind of cross-entropy later, by the shapes.
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return loss
    return keras.losses.get(loss)
