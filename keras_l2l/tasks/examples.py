"""The examples of a Keras model, in the forms that `model.fit` accepts."""

import hashlib

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.utils import checks

_FORMS = (
    "a pair (x, y) or a triple (x, y, sample_weight), a tf.data.Dataset or "
    "keras.utils.PyDataset of these, or a dict of the splits "
    f"{', '.join(base.SPLITS)}"
)


def divide(data, ranks):
    """Returns a dict from each split to its tensors, two or three nests.

    Args:
        data: As for `keras_l2l.tasks.KerasModelTask`.
        ranks: List of ints, the axes of each of the model's inputs, or `None`.
            They distinguish a `tf.data.Dataset` of batches from one of
            examples.

    Raises:
        ValueError: if `data` are something else.
    """
    if isinstance(data, dict):
        if set(data) != set(base.SPLITS):
            raise ValueError(
                f"`data` must have the keys {', '.join(base.SPLITS)}. "
                f"Received: {checks.shortened(', '.join(map(str, data)))}"
            )
        return {split: _tensors(part, ranks) for split, part in data.items()}
    data = _tensors(data, ranks)
    size = number(data)
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


def number(data):
    """Returns the number of examples in a nest of tensors."""
    return tf.nest.flatten(data)[0].shape[0]


def sha256(data):
    """Returns the SHA-256 of a nest of tensors."""
    digest = hashlib.sha256()
    for tensor in tf.nest.flatten(data):
        digest.update(tf.io.serialize_tensor(tensor).numpy())
    return digest.hexdigest()


def _tensors(data, ranks):
    """Returns a tuple of two or three nests of tensors."""
    if isinstance(data, tf.data.Dataset):
        data = _of_dataset(data, ranks)
    elif isinstance(data, keras.utils.PyDataset):
        data = _of_batches(data)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ValueError(
            f"`data` must be {_FORMS}. Received: {checks.shown(data)}"
        )
    if len(data) == 3 and data[2] is None:
        data = data[:2]
    data = tf.nest.map_structure(_tensor, tuple(data))
    flat = tf.nest.flatten(data)
    if not flat or any(t.shape.rank == 0 for t in flat):
        raise ValueError(
            "x, y and sample_weight must be arrays with a leading axis of "
            f"examples. Received: {checks.shown(shapes(data))}, as shapes"
        )
    sizes = sorted({t.shape[0] for t in flat})
    if len(sizes) != 1:
        raise ValueError(
            "x, y and sample_weight must have the same number of examples. "
            f"Received: {' and '.join(map(str, sizes))}"
        )
    return data


def shapes(data):
    """Returns a nest of lists, the shapes of a nest of tensors."""
    return tf.nest.map_structure(lambda t: t.shape.as_list(), data)


def _of_dataset(data, ranks):
    """Returns all elements of a `tf.data.Dataset`, stacked."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`data` must be a finite tf.data.Dataset. Received one that "
            "repeats forever: pass it without .repeat()."
        )
    first = next(iter(data), None)
    if first is None:
        raise ValueError("`data` must hold examples. Received none.")
    if not isinstance(first, tuple) or len(first) not in (2, 3):
        raise ValueError(
            f"`data` must be {_FORMS}. Received: a tf.data.Dataset of "
            f"{checks.shown(first)}"
        )
    if _is_batch(first[0], ranks):
        data = data.unbatch()
    try:
        return tf.nest.map_structure(lambda *t: tf.stack(t), *data)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            "All elements of a tf.data.Dataset must be of the same shapes. "
            f"Received others: {checks.shortened(error)}. If they are batches, "
            "pass data.unbatch()."
        ) from error


def _is_batch(x, ranks):
    """Returns whether `x` has a batch axis in front of the inputs' axes."""
    if ranks is None:
        return False
    return sum(ranks) == sum(t.shape.rank for t in tf.nest.flatten(x))


def _of_batches(data):
    """Returns all batches of a `keras.utils.PyDataset`, concatenated."""
    if not data.num_batches:
        raise ValueError(
            "`data` must be a finite keras.utils.PyDataset with batches. "
            f"Received: num_batches={data.num_batches}"
        )
    batches = [data[i] for i in range(data.num_batches)]
    return tf.nest.map_structure(lambda *t: np.concatenate(t), *batches)


def _tensor(array):
    try:
        tensor = tf.convert_to_tensor(array)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "x, y and sample_weight must be arrays, or nests of them. "
            f"Received: {checks.shown(array)}"
        ) from error
    # Like `fit`, which converts floats to Keras' default precision.
    floating = tensor.dtype.is_floating
    return tf.cast(tensor, keras.config.floatx()) if floating else tensor
