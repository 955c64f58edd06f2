"""Image classification with a multilayer perceptron on any TFDS data set."""

import os
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.tasks import examples
from keras_l2l.tasks.data import datasets
from keras_l2l.utils import checks


class ImageClassification(base.Task):
    """Cross-entropy of an MLP on minibatches of images.

    Pixels are scaled to [0, 1]. Initial weights and biases are IID Gaussian.

    Args:
        dataset: String, the name of a TFDS data set of equally sized images
            with one label each: `"l2l_digits"` (ships with scikit-learn),
            `"mnist"`, `"fashion_mnist"`, `"cifar10"`, ...
        layer_sizes: Tuple of ints, the units of each hidden layer. Defaults
            to `(20,)`.
        activation: String, a Keras activation for the hidden layers. Defaults
            to `"sigmoid"`.
        batch_size: Int. Defaults to 128.
        init_stddev: Float, standard deviation of the initial parameters.
        data_dir: Folder of prepared TFDS data; `None` for TFDS' default.
        download: Bool, whether TFDS may download data that are not prepared.

    Raises:
        ValueError: if a size is not positive or the activation is unknown.
        keras_l2l.tasks.DatasetError: if the data set is unknown, is not
            prepared, or does not hold equally sized labelled images.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.2.
    """

    def __init__(
        self,
        dataset: str = "l2l_digits",
        layer_sizes: Sequence[int] = (20,),
        activation: str = "sigmoid",
        batch_size: int = 128,
        init_stddev: float = 0.1,
        data_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
    ) -> None:
        self.dataset = dataset
        self.layer_sizes = tuple(
            checks.require_int("layer_sizes", value) for value in layer_sizes
        )
        self.activation = activation
        self.batch_size = checks.require_int("batch_size", batch_size)
        self.init_stddev = init_stddev
        self.name = f"{dataset}_mlp"
        if self.layer_sizes != (20,):
            self.name += "_" + "x".join(map(str, self.layer_sizes))
        if activation != "sigmoid":
            self.name += f"_{activation}"
        self._activation = keras.activations.get(activation)
        self._data, classes = datasets.load_images(dataset, data_dir, download)
        inputs = self._data["train"][0].shape[1:].num_elements()
        self._sizes = (inputs, *self.layer_sizes, classes)

    def init_params(self, seed):
        params = []
        for layer, (n, m) in enumerate(
            zip(self._sizes[:-1], self._sizes[1:], strict=True)
        ):
            for i, shape in enumerate([(n, m), (m,)]):
                key = base.random_key(seed, 0, 2 * layer + i)
                normal = tf.random.stateless_normal(shape, key, alg=base.RANDOM)
                params.append(self.init_stddev * normal)
        return params

    def batches(self, split, seed):
        return base.minibatches(self._data[split], self.batch_size, seed)

    def steps_per_epoch(self, split):
        return examples.number(self._data[split]) / self.batch_size

    def loss(self, params, batch):
        images, labels = batch
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, self._logits(params, images)
            )
        )

    def metrics(self, params, non_trainable, split):
        images, labels = self._data[split]
        logits = self._logits([tf.convert_to_tensor(p) for p in params], images)
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )
        hits = keras.metrics.sparse_categorical_accuracy(labels, logits)
        return {
            "loss": float(tf.reduce_mean(losses)),
            "accuracy": float(tf.reduce_mean(hits)),
        }

    def _logits(self, params, images):
        outputs = tf.reshape(images, [-1, self._sizes[0]])
        outputs = tf.cast(outputs, params[0].dtype) / 255
        for layer in range(len(self._sizes) - 1):
            if layer:
                outputs = self._activation(outputs)
            kernel, bias = params[2 * layer : 2 * layer + 2]
            outputs = tf.matmul(outputs, kernel) + bias
        return outputs

    def get_config(self):
        return {
            "dataset": self.dataset,
            "layer_sizes": list(self.layer_sizes),
            "activation": self.activation,
            "batch_size": self.batch_size,
            "init_stddev": self.init_stddev,
        }
