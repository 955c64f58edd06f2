"""TFDS data sets as tensors."""

import pathlib

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_l2l.tasks.data import builders
from keras_l2l.utils import checks

# The last fifth of the training data is held out for `meta_valid`.
_META_VALID_PERCENT = 20


class DatasetError(ValueError):
    """A data set cannot be used. The message says what to do."""


def load_images(name, data_dir=None, download=False, labels=None):
    """Loads a TFDS image-classification data set into memory.

    Args:
        name: String, the data set's TFDS name.
        data_dir: Folder of prepared data; `None` for TFDS' default.
        download: Bool, whether TFDS may download data that are not prepared.
        labels: List of ints, the classes to keep, which are renumbered in this
            order. `None` keeps all.

    Returns:
        Tuple `(splits, num_classes)`. `splits` maps each of `SPLITS` to
        `(images, labels)`: the images in their own dtype, of shape
        `[n, height, width, channels]`, and integer labels `[n]`. `train` and
        `meta_valid` are disjoint parts of the data set's training split,
        `test` is its test (or else validation) split.

    Raises:
        DatasetError: if the data set is unknown, is not prepared, does not
            hold equally sized labelled images, or lacks one of the labels.
    """
    builder = _builder(name, data_dir)
    _check_features(builder)
    classes = builder.info.features["label"].num_classes
    if labels is not None:
        _check_labels(labels, classes)
    builder = _prepared(builder, data_dir, download)
    test = next(
        (s for s in ("test", "validation") if s in builder.info.splits), None
    )
    if "train" not in builder.info.splits or test is None:
        raise DatasetError(
            "A data set must have the splits train and test (or validation). "
            f"Received: {name!r} with {', '.join(builder.info.splits)}."
        )
    percent = 100 - _META_VALID_PERCENT
    splits = {
        "train": f"train[:{percent}%]",
        "meta_valid": f"train[{percent}%:]",
        "test": test,
    }
    data = {
        key: builder.as_dataset(split=split, batch_size=-1)
        for key, split in splits.items()
    }
    data = {key: (part["image"], part["label"]) for key, part in data.items()}
    if labels is None:
        return data, classes
    return {key: _only(labels, *part) for key, part in data.items()}, len(
        labels
    )


def _check_labels(labels, classes):
    if (
        not isinstance(labels, (tuple, list))
        or len(labels) < 2
        or not all(checks.is_int(label) for label in labels)
        or not set(labels) <= set(range(classes))
        or len(set(labels)) < len(labels)
    ):
        raise DatasetError(
            "`labels` must be a list of at least two different ints below "
            f"{classes}, the number of classes. Received: "
            f"labels={checks.shown(labels)}"
        )


def _only(labels, images, of_images):
    """Returns the images of some classes, with renumbered labels."""
    found = tf.equal(of_images[:, None], tf.constant(labels, of_images.dtype))
    kept = tf.reduce_any(found, axis=1)
    return images[kept], tf.argmax(found[kept], axis=1)


def _builder(name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DatasetError(
            "The data set must be one that tensorflow_datasets knows. "
            f"Received: {name!r}. Without a download: l2l_digits, "
            "l2l_patches. All names: tensorflow_datasets.list_builders()."
        ) from None
    except (AssertionError, ValueError) as error:
        # TFDS raises these for an unknown version or configuration.
        raise DatasetError(
            "The data set must be of a version and configuration that "
            f"tensorflow_datasets knows. Received: {name!r}: "
            f"{checks.shortened(error)}"
        ) from None


def _check_features(builder):
    """Raises before a download unless these are labelled images."""
    features = dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or None in image.shape
    ):
        raise DatasetError(
            "A data set must hold images of one size with one label each. "
            f"Received: {builder.name!r} with the features "
            f"{builder.info.features}."
        )


def _prepared(builder, data_dir, download):
    """Returns the builder, with its data on disk."""
    name = builder.name
    if builder.is_prepared():
        return builder
    if not (download or isinstance(builder, builders.NEED_NO_DOWNLOAD)):
        # Without a network TFDS retries for minutes, and then fails with a
        # bare ConnectionError.
        raise DatasetError(
            f"The data set {name!r} must be prepared before use. There is "
            f"none in {builder.data_dir}{_other_versions(builder)}. Either "
            "allow the download (download=True, or --download), or copy a "
            f"prepared folder {name}/ into a folder of yours and pass it as "
            "data_dir (--data_dir)."
        )
    try:
        builder.download_and_prepare()
    except FileExistsError:
        # Another process prepared the same folder meanwhile.
        builder = _builder(name, data_dir)
        if not builder.is_prepared():
            raise
    return builder


def _other_versions(builder):
    """Returns a remark on prepared versions, for the error message."""
    folder = pathlib.Path(builder.data_dir).parent
    found = sorted(p.parent.name for p in folder.glob("*/dataset_info.json"))
    if not found:
        return ""
    return f", but version {', '.join(found)} (as {builder.name}:{found[-1]})"
