"""`KerasModelTask`: any Keras model, with any loss and data."""

import logging
import typing
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_l2l.tasks import base
from keras_l2l.tasks import examples
from keras_l2l.tasks import isolation
from keras_l2l.tasks import model_loss
from keras_l2l.utils import checks
from keras_l2l.utils.descriptions import NOTE
from keras_l2l.utils.descriptions import described
from keras_l2l.utils.descriptions import of_keras

_logger = logging.getLogger(__name__)


class KerasModelTask(base.Task):
    """The training of a Keras model, as a task.

    The loss is that of `model.fit`: `loss(y, model(x, training=True))`, with
    sample weights and the weights of several losses, plus the model's own
    losses (regularizers, `add_loss`). A model that overrides `compute_loss`
    computes its loss itself, as in `fit`. One that overrides `train_step` is
    trained without it, and a warning says so. Dropout seeds and batch-norm
    statistics advance with every inner step.

    Args:
        make_model: Function without arguments that returns a new, built
            `keras.Model`, of the same structure each time.
        loss: As for `compile`: a name, a `keras.losses.Loss`, a function
            `(y_true, y_pred) -> loss`, or a list or dict of these. `None` for
            a model whose own `compute_loss` needs none.
        data: The examples, `(x, y)` or `(x, y, sample_weight)`, each an array
            or a list or dict of arrays; or a finite `tf.data.Dataset` or
            `keras.utils.PyDataset` of these. They are held in memory, shuffled
            once and divided 3 : 1 : 1 into `train`, `meta_valid` and `test`.
            To divide them yourself, pass a dict from these names to such data.
            A `tf.data.Dataset` may hold examples or, for a model with known
            inputs, batches.
        batch_size: Int >= 1, examples in a batch, which are drawn with
            replacement. Defaults to 32.
        name: String that identifies the task in results. Defaults to the
            model's name.
        metrics: List as for `compile`, for example `["accuracy"]`, which
            evaluations report of the trained models in addition to losses.
        loss_weights: As for `compile`. Defaults to `None`, 1 for each loss.

    Attributes:
        data: Dict from each split to its examples, as tensors.

    Raises:
        ValueError: if the model is not built, or the data are not as above.

    Example:
    >>> task = keras_l2l.tasks.KerasModelTask(
    ...     make_model=lambda: keras.Sequential(
    ...         [keras.Input((3,)), keras.layers.Dense(1)]
    ...     ),
    ...     loss="mse",
    ...     data=(np.ones((50, 3)), np.ones((50, 1))),
    ... )
    >>> [tuple(p.shape) for p in task.init_params(seed=0)]
    [(3, 1), (1,)]
    """

    def __init__(
        self,
        make_model: Callable[[], keras.Model],
        loss: typing.Any,
        data: typing.Any,
        batch_size: int = 32,
        name: str | None = None,
        metrics: Sequence[typing.Any] | None = None,
        loss_weights: typing.Any = None,
    ) -> None:
        batch_size = checks.require_int("batch_size", batch_size)
        if isinstance(make_model, keras.Model) or not callable(make_model):
            raise ValueError(
                "`make_model` must be a function that returns a new "
                f"keras.Model. Received: {checks.shown(make_model)}. Build "
                "the model inside a function, and pass that."
            )
        self._make_model = make_model
        self._names = isolation.counts_of_names()
        self._seed_tensorflow = False
        self._model, again = self._new_model(seed=0), self._new_model(seed=0)
        if again is self._model:
            raise ValueError(
                "`make_model` must return a new keras.Model each time. "
                "Received: a function that returns the same one. Build the "
                "model inside the function."
            )
        if not _have_equal_weights(self._model, again):
            self._seed_tensorflow = True
            self._model = self._new_model(seed=0)
        self._latest = (0, self._model)
        if model_loss.overrides(self._model, "train_step"):
            _logger.warning(
                "The train_step of %s is not used: the loss is that of `loss` "
                "and the model's outputs. For another loss, override "
                "compute_loss, which is used.",
                type(self._model).__name__,
            )
        self._loss = model_loss.model_loss(self._model, loss, loss_weights)
        self._from_dataset = isinstance(data, tf.data.Dataset)
        self.data = examples.divide(data, _ranks(self._model))
        self.batch_size = batch_size
        self.name = name or self._model.name
        self._metrics, self._evaluated = metrics, None
        self._try()

    def _try(self):
        """Raises if model, loss and data do not fit together."""
        batch, params, non_trainable = self._first()

        def compute():
            self._loss.build(params, non_trainable, batch)
            return self.loss(params, batch)

        loss = self._accepted("Model and loss", batch, compute)
        if loss.shape.rank != 0 or not tf.math.is_finite(loss):
            raise ValueError(
                "The loss of a freshly initialized model must be a finite "
                f"scalar. Received: {checks.shown(loss.numpy())}. Look for NaN "
                "in the data, and for data that are not scaled."
            )
        not_kept = self._loss.not_kept(params, non_trainable, batch)
        if not_kept:
            _logger.warning(
                "A task keeps nothing that a call of the model changes, but "
                "its non-trainable variables. Received: a model that also "
                "changes %s. Its losses differ from those of fit.",
                checks.shown(", ".join(not_kept)),
            )

    def check_metrics(self) -> None:
        """Raises ValueError unless Keras can evaluate a batch."""
        batch, *values = self._first()
        self._accepted(
            "Model, loss and metrics",
            batch,
            lambda: self._evaluate(*values, batch),
        )

    def _first(self):
        """Returns a batch, and the values that a training begins with."""
        batch = self.batches("train", 0)(tf.constant(0, tf.int64))
        return batch, self.init_params(0), self.init_non_trainable(0)

    def _accepted(self, what, batch, compute):
        """Returns `compute()`, or raises ValueError with the batch's shapes."""
        try:
            return compute()
        except Exception as error:
            shapes = checks.shown(examples.shapes(batch))
            hint = ""
            if self._from_dataset:
                hint = " If the elements of `data` are batches, unbatch() them."
            raise ValueError(
                f"{what} must accept a batch of the data. Received: one "
                f"of shapes {shapes}, which failed with: "
                f"{type(error).__name__}: {checks.shortened(error)}{hint}"
            ) from error

    def _new_model(self, seed):
        # Keras takes seeds of 32 bits; episode seeds have up to 63.
        sequence = np.random.SeedSequence(int(seed))
        seed = int(sequence.generate_state(1)[0])
        with isolation.isolated(seed, self._names, self._seed_tensorflow):
            model = self._make_model()
        if not isinstance(model, keras.Model) or not model.trainable_variables:
            raise ValueError(
                "`make_model` must return a built keras.Model with trainable "
                f"variables. Received: {checks.shown(model)}. Start the model "
                "with keras.Input(shape), or call it on a batch of inputs "
                "before returning it."
            )
        return model

    def _model_of(self, seed):
        """Returns the freshly initialized model of one episode."""
        # One model serves the calls for both kinds of its variables.
        if self._latest[0] != int(seed):
            self._latest = (int(seed), self._new_model(seed))
        return self._latest[1]

    def variables(self):
        return self._new_model(seed=0).trainable_variables

    def fitted(
        self,
        x: typing.Any,
        y: typing.Any,
        optimizer: keras.optimizers.Optimizer,
        epochs: int,
        seed: int,
    ) -> list[np.ndarray]:
        """Returns the parameters of a model after `fit`, a list of arrays.

        Args:
            x, y, epochs: As for `keras.Model.fit`.
            optimizer: `keras.optimizers.Optimizer`.
            seed: Int, of the model's initialization.
        """
        model = self._new_model(seed)
        self._loss.compile(model, optimizer=optimizer)
        model.fit(
            x, y, self.batch_size, epochs=epochs, shuffle=False, verbose=0
        )
        return [ops.convert_to_numpy(v) for v in model.trainable_variables]

    def init_params(self, seed):
        variables = self._model_of(seed).trainable_variables
        return [tf.convert_to_tensor(v) for v in variables]

    def init_non_trainable(self, seed):
        variables = self._model_of(seed).non_trainable_variables
        return [tf.convert_to_tensor(v) for v in variables]

    def batches(self, split, seed):
        return base.minibatches(self.data[split], self.batch_size, seed)

    def steps_per_epoch(self, split):
        return examples.number(self.data[split]) / self.batch_size

    def loss(self, params, batch):
        non_trainable = [
            tf.convert_to_tensor(v) for v in self._model.non_trainable_variables
        ]
        return self.stateful_loss(params, non_trainable, batch)[0]

    def stateful_loss(self, params, non_trainable, batch):
        return self._loss(params, non_trainable, batch, training=True)

    def evaluation_loss(self, params, non_trainable, batch):
        return self._loss(params, non_trainable, batch, training=False)[0]

    def metrics(self, params, non_trainable, split):
        return self._evaluate(params, non_trainable, self.data[split])

    def _evaluate(self, params, non_trainable, data):
        if self._metrics is None:
            return {}
        if self._evaluated is None:
            self._evaluated = self._new_model(seed=0)
            self._loss.compile(self._evaluated, self._metrics)
        model = self._evaluated
        for variables, values in (
            (model.trainable_variables, params),
            (model.non_trainable_variables, non_trainable),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        x, y, *weights = data
        found = model.evaluate(
            x,
            y,
            batch_size=256,
            verbose=0,
            sample_weight=weights[0] if weights else None,
            return_dict=True,
        )
        for name, value in found.items():
            if np.ndim(value):
                raise ValueError(
                    "A metric must be a number. Received: an array of shape "
                    f"{np.shape(value)} from {name!r}. Average it, or leave it "
                    "out."
                )
        # With a floatx of bfloat16 these are tensors.
        return {name: float(value) for name, value in found.items()}

    def get_config(self):
        weights = self._loss.loss_weights
        loss = {"loss": keras.tree.map_structure(described, self._loss.loss)}
        if self._loss.loss is None:
            # What `make_model` compiled cannot be described, but measured.
            batch = self.batches("train", 0)(tf.constant(0, tf.int64))
            first = self.evaluation_loss(
                self.init_params(0), self.init_non_trainable(0), batch
            )
            loss = {"loss": None, "first_loss": float(f"{float(first):.4g}")}
        return {
            "model": _describe(self._model),
            **loss,
            **({} if weights is None else {"loss_weights": weights}),
            "batch_size": self.batch_size,
            "examples": {
                split: examples.number(data)
                for split, data in self.data.items()
            },
            "sha256": {
                split: examples.sha256(data)
                for split, data in self.data.items()
            },
        }


def _have_equal_weights(*models):
    first, second = (model.get_weights() for model in models)
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def _describe(model):
    found = of_keras(model)
    if found is not None:
        return found
    # A subclass that Keras can't serialize is described by name and shapes.
    return {
        "note": NOTE,
        "class_name": type(model).__name__,
        "shapes": [list(v.shape) for v in model.trainable_variables],
    }


def _ranks(model):
    """Returns the numbers of axes of all inputs, or `None` if not known."""
    inputs = getattr(model, "inputs", None)
    if inputs is None:
        # Of a subclass, if it has been called on one argument.
        shape = (model.get_build_config() or {}).get("input_shape")
        inputs = None if shape is None else _shapes(shape)
    return inputs and [len(getattr(one, "shape", one)) for one in inputs]


def _shapes(nest):
    """Returns the shapes in a nest of tuples, a list."""
    if isinstance(nest, dict):
        nest = list(nest.values())
    if all(isinstance(axis, (int, type(None))) for axis in nest):
        return [nest]
    return [shape for one in nest for shape in _shapes(one)]
