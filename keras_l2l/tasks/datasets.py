"""TFDS data sets as tensors; the only importer of tensorflow_datasets."""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

# The last fifth of the training data is held out for `meta_valid`.
_META_VALID_PERCENT = 20


class DatasetError(ValueError):
    """A data set that cannot be used, with what to do about it."""


class L2LDigits(tfds.core.GeneratorBasedBuilder):
    """The 1,797 handwritten digits (8x8) that ship inside scikit-learn.

    Needs no download. Pixels are scaled from 0-16 to 0-255.
    """

    name = "l2l_digits"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            description="Handwritten digits, 8x8, from scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 1500),
            "test": self._generate_examples(1500, 1797),
        }

    def _generate_examples(self, start, stop):
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        for i in range(start, stop):
            yield i, {"image": images[i, :, :, None], "label": digits.target[i]}


class L2LPatches(tfds.core.GeneratorBasedBuilder):
    """Crops (32x32) of ten photographs that ship in Python packages.

    The class of a crop is its photograph. Needs no download. Each photograph
    is divided into three regions, side by side: crops of the first two are
    the training split, in this order and unshuffled, so that its last fifth,
    which is held out for `meta_valid`, shares no pixel with the rest; those
    of the third are the test split.
    """

    name = "l2l_patches"
    VERSION = tfds.core.Version("1.0.0")
    # Where each region begins and ends, in shares of the width, and how many
    # crops are drawn from it.
    REGIONS = ((0.0, 0.6, 400), (0.6, 0.75, 100), (0.75, 1.0, 150))
    SIZE = 32

    def _info(self):
        return self.dataset_info_from_configs(
            description="32x32 crops, labelled with their photograph.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": tfds.features.ClassLabel(
                        names=[name.split(".")[0] for name in _PHOTOGRAPHS]
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://scikit-image.org",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 1),
            "test": self._generate_examples(2),
        }

    def _generate_examples(self, *regions):
        key = 0
        for region in regions:
            for label, image in enumerate(_photographs()):
                for crop in self._crops(image, label, region):
                    yield key, {"image": crop, "label": label}
                    key += 1

    def _crops(self, image, label, region):
        start, stop, number = self.REGIONS[region]
        width = image.shape[1]
        image = image[:, round(start * width) : round(stop * width)]
        rng = np.random.default_rng((label, region))
        while number:
            y, x = (
                rng.integers(side - self.SIZE, endpoint=True)
                for side in image.shape[:2]
            )
            crop = image[y : y + self.SIZE, x : x + self.SIZE]
            # A black margin tells nothing, and is the same in every region.
            if np.ptp(crop) >= 16:
                number -= 1
                yield crop


# They stay where they are. Their packages say of them: public domain or CC0;
# the motorcycle is of Middlebury Stereo 2014, without a licence; china and
# flower are CC BY 2.0, by danielbuechele and vultilion on Flickr.
_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "china.jpg",
    "flower.jpg",
)


def _photographs():
    """Yields them as arrays `[height, width, 3]` of bytes."""
    import skimage.data
    import skimage.io
    from sklearn.datasets import load_sample_image

    for name in _PHOTOGRAPHS[:8]:
        yield skimage.io.imread(pathlib.Path(skimage.data.data_dir, name))
    for name in _PHOTOGRAPHS[8:]:
        yield load_sample_image(name)


def load_images(name, data_dir=None, download=False, labels=None):
    """Loads a TFDS image-classification data set into memory.

    Args:
        name: String, the data set's TFDS name.
        data_dir: Folder of prepared data; `None` is TFDS' default.
        download: Bool, whether TFDS may download what is not prepared.
        labels: List of ints, the classes to keep; they are numbered anew, in
            this order. `None` keeps all.

    Returns:
        Tuple `(splits, num_classes)`. `splits` maps each of `SPLITS` to
        `(images, labels)`: the images in their own dtype, of shape
        `[n, height, width, channels]`, and integer labels `[n]`. `train` and
        `meta_valid` are disjoint parts of the data set's training split,
        `test` is its test (or else validation) split.

    Raises:
        DatasetError: if the data set is unknown, is not prepared, is not one
            of equally sized labelled images, or has no such labels.
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
        or not set(labels) <= set(range(classes))
        or len(set(labels)) < len(labels)
    ):
        raise DatasetError(
            "`labels` must be a list of at least two different ints below "
            f"{classes}, the number of classes. Received: labels={labels!r}"
        )


def _only(labels, images, of_images):
    """Returns the images of some classes, which are numbered anew."""
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
        # So TFDS says that there is no such version or configuration.
        raise DatasetError(
            "The data set must be of a version and configuration that "
            f"tensorflow_datasets knows. Received: {name!r}: {error}"
        ) from None


def _check_features(builder):
    """Raises, before anything is downloaded, if these are no images."""
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
    """Returns the builder when its data are on disk."""
    name = builder.name
    if builder.is_prepared():
        return builder
    if not (download or isinstance(builder, (L2LDigits, L2LPatches))):
        # Checked here because TFDS without a network retries for minutes
        # and then fails with a bare ConnectionError.
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
    """Returns words on what versions there are beside one that is missing."""
    folder = pathlib.Path(builder.data_dir).parent
    found = sorted(p.parent.name for p in folder.glob("*/dataset_info.json"))
    if not found:
        return ""
    return f", but version {', '.join(found)} (as {builder.name}:{found[-1]})"
