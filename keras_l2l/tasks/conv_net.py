"""Image classification with a convolutional network on any TFDS data set."""

import os
from collections.abc import Sequence

import keras

from keras_l2l.tasks import keras_model
from keras_l2l.tasks.data import datasets
from keras_l2l.utils import checks


class ConvNetClassification(keras_model.KerasModelTask):
    """Cross-entropy of a small convolutional network on minibatches of images.

    Three convolutions, each with batch normalization, ReLU and max-pooling by
    2, then a dense layer of 32 units with batch normalization and ReLU, then
    the logits. Pixels are scaled to [-1, 1]. Initial kernels are IID Gaussian.
    The layers are named `conv_...` and `dense_...`, so that a `Partition` can
    select them.

    The paper does not specify filters, kernels and batches. The defaults are
    those of its authors' code.

    Args:
        dataset: String, the name of a TFDS data set of equally sized images
            with one label each: `"l2l_patches"` (ships with scikit-image
            and scikit-learn), `"cifar10"`, ...
        labels: List of ints, the classes to use, as in the paper's CIFAR-5 and
            CIFAR-2. `None` uses all.
        filters: Int, filters of each convolution. Defaults to 16.
        kernel_size: Int. Defaults to 5.
        batch_size: Int. Defaults to 128.
        data_dir: Folder of prepared TFDS data; `None` for TFDS' default.
        download: Bool, whether TFDS may download data that are not prepared.

    Raises:
        ValueError: if a size is not positive.
        keras_l2l.tasks.DatasetError: if the data set is unknown, is not
            prepared, does not hold equally sized labelled images, or lacks
            one of the labels.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.3.
    """

    def __init__(
        self,
        dataset: str = "l2l_patches",
        labels: Sequence[int] | None = None,
        filters: int = 16,
        kernel_size: int = 5,
        batch_size: int = 128,
        data_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
    ) -> None:
        filters = checks.require_int("filters", filters)
        kernel_size = checks.require_int("kernel_size", kernel_size)
        data, classes = datasets.load_images(
            dataset, data_dir, download, labels
        )
        shape = data["train"][0].shape[1:]
        name = f"{dataset}_conv"
        if labels is not None:
            name += "_labels_" + "_".join(map(str, labels))
        super().__init__(
            lambda: _model(shape, classes, filters, kernel_size),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            data,
            batch_size,
            name,
            metrics=["accuracy"],
        )


def _model(shape, classes, filters, kernel_size):
    layers = keras.layers
    gaussian = keras.initializers.RandomNormal

    def normalized(name):
        return [
            layers.BatchNormalization(name=f"{name}_norm"),
            layers.ReLU(),
        ]

    model = [keras.Input(shape), layers.Rescaling(1 / 127.5, offset=-1)]
    for i in range(3):
        model += [
            layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                # The normalization adds a bias.
                use_bias=False,
                kernel_initializer=gaussian(stddev=0.1),
                name=f"conv_{i}",
            ),
            *normalized(f"conv_{i}"),
            layers.MaxPooling2D(),
        ]
    model += [
        layers.Flatten(),
        layers.Dense(
            32,
            use_bias=False,
            kernel_initializer=gaussian(stddev=0.1),
            name="dense_0",
        ),
        *normalized("dense_0"),
        layers.Dense(
            classes, kernel_initializer=gaussian(stddev=0.1), name="dense_1"
        ),
    ]
    return keras.Sequential(model, name="image_classifier")
