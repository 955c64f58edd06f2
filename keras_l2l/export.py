"""Export of SavedModels that run in TensorFlow without Keras or this package.

A SavedModel holds either a training step, with which the training continues, or
an update rule alone, for any vector.
"""

import os
import typing

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.optimizer.learned_optimizer import LearnedOptimizer
from keras_l2l.rules import base
from keras_l2l.rules import gradients as gradients_lib
from keras_l2l.utils import backends
from keras_l2l.utils import checks
from keras_l2l.utils import files
from keras_l2l.utils import nests


def export_training_step(
    model: keras.Model,
    path: str | os.PathLike[str],
    batch: tuple[typing.Any, typing.Any],
) -> None:
    """Writes a SavedModel that continues the training of a model.

    The training continues bit for bit with the same TensorFlow on the same
    kind of machine. The loaded object has two functions, which are also its
    signatures:

    - `train_step(x, y)` trains on a batch, and returns a dict of its loss and
      metrics, like `model.train_on_batch(x, y, return_dict=True)`;
    - `predict(x)` returns a dict of `predictions`, those of the model outside
      of training.

    Signatures take only tensors, by name. Nested inputs such as
    `{"left": ..., "right": ...}` are `x_left` and `x_right` there.

    The loaded object can be checkpointed with `tf.train.Checkpoint`, and
    saved again. Its variables are in the lists `model` (in the order of
    `model.variables`), `optimizer` (in that of `model.optimizer.variables`)
    and `other` (metrics).

    Args:
        model: Built and compiled `keras.Model`, with any Keras optimizer. A
            model with `run_eagerly` becomes a graph, which rounds differently.
        path: Path of a folder that does not exist or is empty.
        batch: Pair `(x, y)`, a sample batch as for `train_on_batch`. Only its
            shapes and dtypes are used, and the first dimension is left open.
            Floating-point NumPy arrays count as `keras.config.floatx()`, as in
            `fit`. To leave more dimensions open, pass a `tf.TensorSpec`
            instead of an array.

    Raises:
        FileExistsError: if the folder is not empty.
        ValueError: if the model is not built or compiled or is distributed,
            or `batch` is not such a pair.
    """
    files.require_empty(path)
    _require_trainable(model)
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(
            "`batch` must be a pair (x, y). Received: a "
            f"{type(batch).__name__}. Pass batch=(x[:1], y[:1])."
        )
    x, y = (
        nests.pack_leaves(
            nest, [_spec(*leaf) for leaf in nests.named_leaves(nest, name)]
        )
        for name, nest in zip(("x", "y"), batch, strict=True)
    )
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    # The same compilation as in `fit`, for the same bits.
    options = {"jit_compile": model.jit_compile, "autograph": False}

    def train_step(x, y):
        model.reset_metrics()
        return model.train_step((x, y))

    def predict(x):
        return _flat(model(x, training=False), "predictions")

    module = tf.Module()
    module.train_step = tf.function(train_step, [x, y], **options)
    module.predict = tf.function(predict, [x], **options)
    # Plain variables, since a Keras model with Dropout can't be tracked.
    module.model = [v.value for v in model.variables]
    module.optimizer = [v.value for v in model.optimizer.variables]
    traced = module.train_step.get_concrete_function().graph
    listed = {id(v) for v in [*module.model, *module.optimizer]}
    module.other = [v for v in traced.variables if id(v) not in listed]
    signatures = {"train_step": module.train_step, "predict": module.predict}
    _save(module, path, signatures)


def export_update_rule(
    optimizer: LearnedOptimizer, path: str | os.PathLike[str]
) -> None:
    """Writes a SavedModel of an optimizer's update rule, for any vector.

    The loaded object has two functions:

    - `initial_state(n)` returns the state of `n` coordinates: a dict of the
      scalar `iteration`, tensors `state_...` of shape `[..., n]` and, for a
      rule that needs it, the bool tensor `seen` of shape `[n]`;
    - `update(gradient, state)` takes a gradient of shape `[n]`, and returns a
      pair of the update, of shape `[n]`, and the next state.

    ```
    update, state = loaded.update(gradient, state)
    params = params + learning_rate * update
    ```

    They are also signatures, which take tensors by name:
    `update(gradient=..., **state)` returns a dict of `update` and the state.

    Learning rate, clipping and weight decay are left to the caller. The value
    and the state of a coordinate do not change if its gradient is not finite,
    or has always been 0. `update` is differentiable in the gradient, the state
    and the variables in the list `meta_params`, and XLA can compile it.

    Args:
        optimizer: `LearnedOptimizer` whose rule is a `CoordinatewiseRule`.
        path: Path of a folder that does not exist or is empty.

    Raises:
        FileExistsError: if the folder is not empty.
        ValueError: if `optimizer` is something else.
    """
    files.require_empty(path)
    rule = getattr(optimizer, "rule", None)
    if not isinstance(rule, base.CoordinatewiseRule):
        raise ValueError(
            "`optimizer` must be a LearnedOptimizer whose rule is a "
            "CoordinatewiseRule: only such a rule updates any vector. "
            f"Received: {type(optimizer).__name__} with rule "
            f"{type(rule).__name__}. Export a model that it trains, with "
            "export_training_step."
        )
    module = tf.Module()
    # Copies, since a tape does not watch an optimizer's variables, which are
    # not trainable.
    named = list(nests.named_leaves(optimizer.meta_params))
    module.meta_params = [tf.Variable(v, name=_name(k)) for k, v in named]
    pack_meta_params = nests.packer(optimizer.meta_params)
    one = rule.init_coordinate_state(1)
    pack_state = nests.packer(one)
    specs = {
        name: tf.TensorSpec([*leaf.shape[:-1], None], leaf.dtype, name)
        for name, leaf in _flat(one, "state").items()
    }

    seen_specs = {}
    if not rule.rests_without_gradient:
        seen_specs["seen"] = tf.TensorSpec([None], tf.bool, "seen")

    def initial_state(n):
        state = _flat(rule.init_coordinate_state(n), "state")
        seen = gradients_lib.init_seen(rule, [(n,)])
        seen = dict(zip(seen_specs, seen, strict=True))
        return {**state, **seen, "iteration": tf.constant(0, tf.int64)}

    # The same compilation as in `LearnedOptimizer`, for the same bits.
    step = backends.compiled(rule.masked_coordinate_step, rule.jit_compile)

    def update(gradient, state):
        (gradient,), (mask,), seen = gradients_lib.received(
            [gradient],
            [gradient.shape],
            [state[name] for name in seen_specs],
        )
        update, new_state = step(
            pack_meta_params([tf.identity(v) for v in module.meta_params]),
            gradient,
            pack_state([state[name] for name in specs]),
            state["iteration"],
            mask,
        )
        new_state = _flat(new_state, "state")
        seen = dict(zip(seen_specs, seen, strict=True))
        return update, {
            **new_state,
            **seen,
            "iteration": state["iteration"] + 1,
        }

    state_specs = {**specs, **seen_specs}
    _save(module, path, _traced(module, initial_state, update, state_specs))


def _traced(module, initial_state, update, state_specs):
    """Adds the functions of a rule to a module; returns its signatures."""
    counter = tf.TensorSpec([], tf.int64, "iteration")
    inputs = [
        tf.TensorSpec([None], tf.float32, "gradient"),
        {**state_specs, "iteration": counter},
    ]

    def update_signature(gradient, state):
        update, state = module.update(gradient, state)
        return {"update": update, **state}

    module.initial_state = tf.function(
        initial_state, [tf.TensorSpec([], tf.int32, "n")], autograph=False
    )
    module.update = tf.function(update, inputs, autograph=False)
    return {
        "initial_state": module.initial_state,
        "update": tf.function(update_signature, inputs, autograph=False),
    }


def _require_trainable(model):
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a keras.Model. Received: "
            f"{checks.shown(model)} (of type {type(model).__name__}). For an "
            "optimizer alone use export_update_rule."
        )
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            "`model` must be compiled. Received: a model without optimizer "
            "and loss. Call model.compile(...) first."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built. Received: a model without variables. "
            "Call model.build(input_shape) or model.fit(...) first."
        )
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            "`model` must be on one replica. Received: a model on "
            f"{replicas} replicas. Save it with model.save, and export what "
            "keras.models.load_model returns outside of the strategy's scope."
        )


def _spec(path, value):
    """Returns the named `tf.TensorSpec` of one leaf of a sample batch."""
    if isinstance(value, tf.TensorSpec):
        return tf.TensorSpec(value.shape, value.dtype, _name(path))
    if not tf.is_tensor(value):
        value = np.asarray(value)
        if np.issubdtype(value.dtype, np.floating):
            value = value.astype(keras.config.floatx())
    if not value.shape:
        raise ValueError(
            "Every array of `batch` must have a batch dimension. Received: "
            f"{path} = {checks.shown(value)}. Pass batch=(x[:1], y[:1])."
        )
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype, _name(path))


def _flat(nest, name):
    """Returns a nest as a flat dict, such as `"state_lstm_0_cell"` -> leaf."""
    return {_name(path): leaf for path, leaf in nests.named_leaves(nest, name)}


def _name(path):
    return path.replace("/", "_")


def _save(module, path, signatures):
    """Writes a SavedModel, completely or not at all."""
    with files.new_folder(path) as folder:
        try:
            tf.saved_model.save(module, str(folder), signatures)
        except AssertionError as error:
            raise ValueError(
                "The model must hold no resources but variables. Received: a "
                "model with others, such as lookup tables. Take these layers "
                "out of the model, and apply them to the data."
            ) from error
