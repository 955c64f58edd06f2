"""Any Keras model, with any loss and data, as a task."""

import hashlib
import inspect

import keras
import numpy as np
import tensorflow as tf

from keras_l2l import checks
from keras_l2l.tasks import base
from keras_l2l.tasks import isolation


class KerasModelTask(base.Task):
    """The training of a Keras model: meta-train on what you will train.

    The loss is that of `model.fit`: `loss(y, model(x, training=True))` plus
    the model's own losses (regularizers, `add_loss`). Dropout seeds and
    batch-norm statistics move on with every inner step.

    Args:
        make_model: Function without arguments that returns a new, built
            `keras.Model`, of the same structure each time.
        loss: Keras loss: a name, a `keras.losses.Loss`, or a function
            `(y_true, y_pred) -> loss`.
        data: The examples `(x, y)`, as a pair of arrays (or nests of arrays)
            or as a finite `tf.data.Dataset` of single examples. They are
            shuffled once and divided 3 : 1 : 1 into `train`, `meta_valid` and
            `test`. To divide them yourself, pass a dict from these names to
            such data. They are held in memory.
        batch_size: Int >= 1, drawn with replacement. Defaults to 32.
        name: String that identifies the task in results. Defaults to the
            model's name.
        metrics: List as for `compile`, `["accuracy"]` for example: what
            evaluations report of the trained models beside losses.

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
        make_model,
        loss,
        data,
        batch_size=32,
        name=None,
        metrics=None,
    ):
        batch_size = checks.require_int("batch_size", batch_size)
        if isinstance(make_model, keras.Model) or not callable(make_model):
            raise ValueError(
                "`make_model` must be a function that returns a new "
                f"keras.Model. Received: {make_model!r}. Build the model "
                "inside a function, and pass that."
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
        # As `fit` does: a `call` without `training` is not given it.
        has_training = (
            "training" in inspect.signature(self._model.call).parameters
        )
        self._training = {"training": True} if has_training else {}
        self._latest = (0, self._model)
        self._loss = keras.losses.get(loss)
        if self._loss is None:
            raise ValueError(
                '`loss` must be a Keras loss, such as "mse". Received: None'
            )
        self._data = _divide(data)
        self.batch_size = batch_size
        self.name = name or self._model.name
        self._metrics, self._evaluated = metrics, None
        self._try()

    def _try(self):
        """Raises if model, loss and data don't fit, before hours are spent."""
        batch = self.batches("train", 0)(tf.constant(0, tf.int64))
        try:
            loss = self.loss(self.init_params(0), batch)
        except Exception as error:
            shapes = tf.nest.map_structure(lambda t: t.shape.as_list(), batch)
            raise ValueError(
                "Model and loss must accept a batch of the data. Received: x "
                f"and y of shapes {shapes}, which failed with: {error}"
            ) from error
        if loss.shape.rank != 0 or not tf.math.is_finite(loss):
            raise ValueError(
                "The loss of a freshly initialized model must be a finite "
                f"scalar. Received: {loss}. Look for NaN in the data, and for "
                "data that are not scaled."
            )

    def _new_model(self, seed):
        # Keras takes 32 bits; episode seeds have up to 63.
        sequence = np.random.SeedSequence(int(seed))
        seed = int(sequence.generate_state(1)[0])
        with isolation.isolated(seed, self._names, self._seed_tensorflow):
            model = self._make_model()
        if not isinstance(model, keras.Model) or not model.trainable_variables:
            raise ValueError(
                "`make_model` must return a built keras.Model with trainable "
                f"variables. Received: {model!r}. Start the model with "
                "keras.Input(shape), or call model.build(input_shape) before "
                "returning it."
            )
        return model

    def _model_of(self, seed):
        """Returns the freshly initialized model of one episode."""
        # Both kinds of variables are asked for in turn: build once for both.
        if self._latest[0] != int(seed):
            self._latest = (int(seed), self._new_model(seed))
        return self._latest[1]

    def variables(self):
        return self._new_model(seed=0).trainable_variables

    def init_params(self, seed):
        variables = self._model_of(seed).trainable_variables
        return [tf.convert_to_tensor(v) for v in variables]

    def init_non_trainable(self, seed):
        variables = self._model_of(seed).non_trainable_variables
        return [tf.convert_to_tensor(v) for v in variables]

    def batches(self, split, seed):
        return base.minibatches(self._data[split], self.batch_size, seed)

    def loss(self, params, batch):
        non_trainable = [
            tf.convert_to_tensor(v) for v in self._model.non_trainable_variables
        ]
        return self.stateful_loss(params, non_trainable, batch)[0]

    def stateful_loss(self, params, non_trainable, batch):
        x, y = batch
        outputs, non_trainable, losses = self._model.stateless_call(
            params, non_trainable, x, return_losses=True, **self._training
        )
        # A function as loss returns one value per example.
        loss = tf.reduce_mean(self._loss(y, outputs))
        return tf.add_n([loss, *losses]), list(non_trainable)

    def metrics(self, params, non_trainable, split):
        if self._metrics is None:
            return {}
        if self._evaluated is None:
            self._evaluated = self._new_model(seed=0)
            self._evaluated.compile(loss=self._loss, metrics=self._metrics)
        model = self._evaluated
        for variables, values in (
            (model.trainable_variables, params),
            (model.non_trainable_variables, non_trainable),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        x, y = self._data[split]
        return model.evaluate(x, y, batch_size=256, verbose=0, return_dict=True)

    def get_config(self):
        return {
            "model": _describe(self._model),
            "loss": keras.saving.serialize_keras_object(self._loss),
            "batch_size": self.batch_size,
            "examples": {
                split: tf.nest.flatten(data)[0].shape[0]
                for split, data in self._data.items()
            },
            "sha256": {
                split: _sha256(data) for split, data in self._data.items()
            },
        }


def _sha256(data):
    """Returns what tells data of the same shapes apart."""
    digest = hashlib.sha256()
    for tensor in tf.nest.flatten(data):
        digest.update(tf.io.serialize_tensor(tensor).numpy())
    return digest.hexdigest()


def _have_equal_weights(*models):
    first, second = (model.get_weights() for model in models)
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def _describe(model):
    try:
        return keras.saving.serialize_keras_object(model)
    except NotImplementedError:
        # A subclass without `get_config`: its name and shapes must do.
        return {
            "class_name": type(model).__name__,
            "shapes": [list(v.shape) for v in model.trainable_variables],
        }


def _divide(data):
    """Returns a dict from each split to a pair of nests of tensors."""
    if isinstance(data, dict):
        if set(data) != set(base.SPLITS):
            raise ValueError(
                f"`data` must have the keys {', '.join(base.SPLITS)}. "
                f"Received: {', '.join(map(str, data))}"
            )
        return {split: _tensors(part) for split, part in data.items()}
    data = _tensors(data)
    size = tf.nest.flatten(data)[0].shape[0]
    if size < 5:
        raise ValueError(
            f"`data` must hold at least 5 examples. Received: {size}"
        )
    order = np.random.default_rng(0).permutation(size)
    parts = np.split(order, [size * 3 // 5, size * 4 // 5])
    return {
        split: tf.nest.map_structure(lambda t, i=part: tf.gather(t, i), data)
        for split, part in zip(base.SPLITS, parts, strict=True)
    }


def _tensors(data):
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`data` must be a finite tf.data.Dataset. Received one that "
                "repeats for ever: pass it without .repeat()."
            )
        examples = list(data)
        if not examples:
            raise ValueError("`data` must hold examples. Received none.")
        data = tf.nest.map_structure(lambda *t: tf.stack(t), *examples)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(
            "`data` must be a pair (x, y), a tf.data.Dataset of such pairs, "
            f"or a dict of the splits {', '.join(base.SPLITS)}. Received: "
            f"{type(data).__name__}"
        )
    data = tf.nest.map_structure(_tensor, tuple(data))
    if any(t.shape.rank == 0 for t in tf.nest.flatten(data)):
        raise ValueError(
            "x and y must be arrays with a leading axis of examples. "
            f"Received: {data}"
        )
    sizes = sorted({t.shape[0] for t in tf.nest.flatten(data)})
    if len(sizes) != 1:
        raise ValueError(
            "x and y must have the same number of examples. Received: "
            f"{' and '.join(map(str, sizes))}"
        )
    return data


def _tensor(array):
    tensor = tf.convert_to_tensor(array)
    # As `fit` does: floats arrive in Keras' default precision.
    floating = tensor.dtype.is_floating
    return tf.cast(tensor, keras.config.floatx()) if floating else tensor
