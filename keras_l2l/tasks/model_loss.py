"""The loss of a Keras model, as a pure function."""

import inspect

import keras
import tensorflow as tf

from keras_l2l.utils import checks


def overrides(model, name):
    """Returns whether a model has its own form of a method of `keras.Model`."""
    method = getattr(model, name)
    # A function that is set on the model itself is not bound.
    return getattr(method, "__func__", method) is not getattr(keras.Model, name)


def model_loss(model, loss, loss_weights):
    """Returns the `ModelLoss` of a model; arguments as for that."""
    kind = OwnLoss if overrides(model, "compute_loss") else ModelLoss
    return kind(model, loss, loss_weights)


class ModelLoss:
    """The loss of a model under `compile(loss, loss_weights)`.

    Keras itself computes it. Sample weights, masks, losses by the name or the
    position of an output, and their weights count as in `fit`.

    Args:
        model: `keras.Model`.
        loss, loss_weights: As for `keras.Model.compile`.

    Raises:
        ValueError: if Keras knows no such loss.
    """

    def __init__(self, model, loss, loss_weights):
        self.loss, self.loss_weights = self._checked(loss), loss_weights
        self._model = model
        # Like `fit`: a method gets `training` only if it accepts it.
        self._has_training = _has_training(model.call)
        self._compiled = self._new_compiled()
        self.compile(self._compiled)

    def compile(self, model, metrics=None, optimizer=None):
        """Compiles a model with this loss.

        Args:
            model: `keras.Model`.
            metrics, optimizer: As for `keras.Model.compile`.
        """
        model.compile(
            **({} if optimizer is None else {"optimizer": optimizer}),
            loss=self.loss,
            loss_weights=self.loss_weights,
            metrics=metrics,
        )

    def _checked(self, loss):
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
        return found

    def _new_compiled(self):
        # This model has no other losses, so `compute_loss` adds nothing.
        compiled = keras.Model(name="loss")
        compiled.output_names = getattr(self._model, "output_names", None)
        return compiled

    def build(self, params, non_trainable, batch):
        """Builds Keras' losses from one batch."""
        outputs, *_ = self._outputs(params, non_trainable, batch, True)
        self._compute(batch, outputs, training=True)

    def __call__(self, params, non_trainable, batch, training):
        """Returns the scalar loss of a batch and the new non-trainable values.

        Args:
            params, non_trainable: Lists of the values of the variables.
            batch: Tuple `(x, y)` or `(x, y, sample_weight)`.
            training: Bool. The model's own losses (regularizers, `add_loss`)
                count in training only.
        """
        outputs, non_trainable, losses = self._outputs(
            params, non_trainable, batch, training
        )
        # Keras also tracks the mean loss of each output, which is dropped.
        with keras.StatelessScope():
            loss = self._compute(batch, outputs, training)
        if training:
            for own in losses:
                loss += tf.cast(tf.reduce_sum(own), loss.dtype)
        return loss, list(non_trainable)

    def _outputs(self, params, non_trainable, batch, training):
        return self._model.stateless_call(
            params,
            non_trainable,
            batch[0],
            return_losses=True,
            **self._mode(training),
        )

    def not_kept(self, params, non_trainable, batch):
        """Returns the names of what a call changes and no task keeps.

        `fit` keeps it: trainable weights that a layer assigns, as
        `SpectralNormalization` does, and the states of stateful RNNs, which are
        no variables of a model.

        Args:
            params, non_trainable, batch: As for a call.
        """
        trainable = self._model.trainable_variables
        others = self._model.non_trainable_variables
        values = [*params, *non_trainable]
        mapping = zip([*trainable, *others], values, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self._model(batch[0], **self._mode(training=True))
        found = [
            variable.path
            for variable, value in zip(trainable, params, strict=True)
            if scope.get_current_value(variable) is not value
        ]
        layers = self._model._flatten_layers(include_self=False)
        return found + [v.name for v in layers if getattr(v, "stateful", False)]

    def _mode(self, training):
        return {"training": training} if self._has_training else {}

    def _compute(self, batch, outputs, training):
        _, y, *weights = batch
        return self._compiled.compute_loss(
            y=y, y_pred=outputs, sample_weight=weights[0] if weights else None
        )


class OwnLoss(ModelLoss):
    """The loss of a model that overrides `compute_loss`.

    Its own losses count where that method adds them, as in `fit`. A model that
    comes compiled stays so if `loss` is `None`.
    """

    def _checked(self, loss):
        # The method may need none.
        return None if loss is None else super()._checked(loss)

    def _new_compiled(self):
        self._loss_has_training = _has_training(self._model.compute_loss)
        return self._model

    def compile(self, model, metrics=None, optimizer=None):
        arguments = {
            "optimizer": optimizer,
            "loss": self.loss,
            "loss_weights": self.loss_weights,
            "metrics": metrics or None,
        }
        given = {k: v for k, v in arguments.items() if v is not None}
        if self.loss is None and model.compiled:
            if given.keys() - {"optimizer"}:
                raise ValueError(
                    "Where `make_model` compiles the model, it must pass all "
                    f"arguments of compile. Received: {', '.join(given)} here. "
                    "Pass them to compile, in `make_model`."
                )
            model.optimizer = optimizer or model.optimizer
            return
        try:
            model.compile(**given)
        except TypeError as error:
            raise ValueError(
                f"The compile of {type(model).__name__} must accept "
                f"{', '.join(given)}. Received: {checks.shortened(error)}. "
                "Or compile the model in `make_model`, and pass loss=None."
            ) from error

    def build(self, params, non_trainable, batch):
        variables = self._model.non_trainable_variables
        before = [v.numpy() for v in variables]
        # Not in a scope: losses of the call must be there.
        outputs = self._model(batch[0], **self._mode(training=True))
        self._compute(batch, outputs, training=True)
        # Such as the states of seeds.
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def __call__(self, params, non_trainable, batch, training):
        variables = self._model.non_trainable_variables
        values = [
            *zip(self._model.trainable_variables, params, strict=True),
            *zip(variables, non_trainable, strict=True),
        ]
        # One scope: the method may read any variable, and losses of the call.
        with keras.StatelessScope(values, collect_losses=True) as scope:
            outputs = self._model(batch[0], **self._mode(training))
            loss = self._compute(batch, outputs, training)
        return loss, [scope.get_current_value(v) for v in variables]

    def _compute(self, batch, outputs, training):
        x, y, *weights = batch
        weight = weights[0] if weights else None
        mode = {"training": training} if self._loss_has_training else {}
        return self._model.compute_loss(x, y, outputs, weight, **mode)


def _has_training(function):
    return "training" in inspect.signature(function).parameters


def _get(loss):
    # Keras chooses the kind of cross-entropy later, by the shapes.
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return loss
    return keras.losses.get(loss)
