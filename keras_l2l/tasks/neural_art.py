"""`NeuralArt`: the paper's style transfer, which optimizes a picture."""

import hashlib
import os
import typing

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.tasks.data import datasets
from keras_l2l.utils import checks

CONTENT_LAYER = "block4_conv2"
STYLE_LAYERS = tuple(f"block{i}_conv1" for i in range(1, 6))
# Content images in each split, as in the paper.
IMAGES = {"train": 100, "meta_valid": 20, "test": 20}


class NeuralArt(base.Task):
    """Picture with the content of one image and the style of another.

    ```
    loss = content_weight * content + style_weight * style + tv_weight * tv
    content = |features(picture) - features(content)|^2 / |features(content)|^2
    style = mean over layers of
        |gram(picture) - gram(style)|^2 / |gram(style)|^2
    tv = mean squared difference of neighbouring pixels
    ```

    Features are those of VGG19, at `block4_conv2` for the content and at the
    first convolution of each block for the style. The only parameter is the
    picture, of shape `[height, width, 3]`. Pixel values are
    `127.5 * (1 + params)`, and the initial parameters are IID Gaussian. Each
    episode has a content image of its split. The style is always the same.

    The paper specifies neither layers nor weights. The layers are those of
    Gatys et al., and errors are relative, so that weights have the same meaning
    with any network.

    Args:
        style: Array `[h, w, 3]` of pixels from 0 to 255, resized to the size
            of the content images.
        dataset: String, the name of a TFDS data set of content images. At most
            the first 100, 20 and 20 images of the splits are used. Defaults to
            `"l2l_patches/64"`.
        vgg_weights: `None` for random weights (He-normal, always the same);
            `"imagenet"`, which Keras downloads; or the path of a weights file
            of `keras.applications.VGG19(include_top=False)`.
        content_weight, style_weight, tv_weight: Floats >= 0.
        init_stddev: Float, standard deviation of the initial parameters.
        data_dir: Folder of prepared TFDS data; `None` for TFDS' default.
        download: Bool, whether TFDS may download data that are not prepared.

    Raises:
        ValueError: if `style` is not such an array, a weight is negative, the
            content images are too small for VGG19, or `vgg_weights` is not such
            a file.
        keras_l2l.tasks.DatasetError: if the data set is unknown, is not
            prepared, or does not hold equally sized labelled colour images.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.4; Gatys et
        al., 2015 (arXiv 1508.06576).
    """

    def __init__(
        self,
        style: typing.Any,
        dataset: str = "l2l_patches/64",
        vgg_weights: str | os.PathLike[str] | None = None,
        content_weight: float = 100.0,
        style_weight: float = 100.0,
        tv_weight: float = 10.0,
        init_stddev: float = 0.3,
        data_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
    ) -> None:
        style = _require_pixels(style)
        self._weights = {
            "content_weight": content_weight,
            "style_weight": style_weight,
            "tv_weight": tv_weight,
        }
        for name, value in self._weights.items():
            if value != 0:
                self._weights[name] = checks.require_positive(name, value)
        if not any(self._weights.values()):
            raise ValueError(
                "One of the weights must be positive. Received: "
                f"{self._weights}"
            )
        self.dataset = dataset
        self.init_stddev = checks.require_positive("init_stddev", init_stddev)
        self.name = f"{dataset.replace('/', '_')}_neural_art"
        splits, _ = datasets.load_images(dataset, data_dir, download)
        self.contents = {
            split: images[: IMAGES[split]]
            for split, (images, _) in splits.items()
        }
        self._shape = tuple(self.contents["train"].shape[1:])
        if self._shape[2] != 3 or min(self._shape[:2]) < 32:
            raise ValueError(
                "Content images must be in colour and of 32 x 32 pixels at "
                f"least. Received: {checks.shown(dataset)}, with images of "
                f"{self._shape}."
            )
        self._vgg, self._vgg_sha256 = _vgg(self._shape, vgg_weights)
        style = tf.image.resize(style, self._shape[:2], antialias=True)
        self.style_params = _to_params(style)
        *style_features, _ = self._features(self.style_params)
        self._grams = [_gram(f) for f in style_features]
        # Computed once, since every inner step needs them.
        self._targets = {
            split: tf.stack(
                [self._features(_to_params(image))[-1] for image in images]
            )
            for split, images in self.contents.items()
        }

    def init_params(self, seed):
        normal = tf.random.stateless_normal(
            self._shape, base.random_key(seed, 0), alg=base.RANDOM
        )
        return [self.init_stddev * normal]

    def content_index(self, split: str, seed: typing.Any) -> typing.Any:
        """Returns the index in `contents[split]` of an episode's image.

        Args:
            split: One of `keras_l2l.tasks.SPLITS`.
            seed: Episode seed.
        """
        # In turn instead of at random, so that few seeds see many images.
        index = tf.cast(seed, tf.int64) // len(base.SPLITS)
        return index % self.contents[split].shape[0]

    def batches(self, split, seed):
        index = self.content_index(split, seed)
        return lambda step: tf.gather(self._targets[split], index)

    def loss(self, params, batch):
        (picture,) = params
        *style_features, features = self._features(picture)
        content = _relative(features, batch)
        style = tf.add_n(
            [
                _relative(_gram(features), gram)
                for features, gram in zip(
                    style_features, self._grams, strict=True
                )
            ]
        ) / len(self._grams)
        tv = tf.reduce_mean(tf.square(picture[1:] - picture[:-1]))
        tv += tf.reduce_mean(tf.square(picture[:, 1:] - picture[:, :-1]))
        return (
            self._weights["content_weight"] * content
            + self._weights["style_weight"] * style
            + self._weights["tv_weight"] * tv
        )

    def _features(self, picture):
        """Returns the features of the style layers and the content layer."""
        pixels = 127.5 * (1 + picture[None])
        pixels = keras.applications.vgg19.preprocess_input(pixels)
        return [features[0] for features in self._vgg(pixels, training=False)]

    def get_config(self):
        return {
            "dataset": self.dataset,
            "style_sha256": _sha256(self.style_params.numpy()),
            "vgg_sha256": self._vgg_sha256,
            **self._weights,
            "init_stddev": self.init_stddev,
        }


def to_pixels(params):
    """Returns a picture as bytes `[height, width, 3]`, with NaN as black."""
    pixels = np.nan_to_num(127.5 * (1 + np.asarray(params)), nan=0.0)
    pixels = np.clip(pixels, 0, 255)
    return np.round(pixels).astype(np.uint8)


def _to_params(pixels):
    return tf.cast(pixels, "float32") / 127.5 - 1


def _relative(received, expected):
    """Returns the squared error, relative to the expected value."""
    return tf.reduce_sum(tf.square(received - expected)) / tf.reduce_sum(
        tf.square(expected)
    )


def _gram(features):
    """Returns the Gram matrix of features `[h, w, channels]`."""
    flat = tf.reshape(features, [-1, features.shape[-1]])
    return tf.matmul(flat, flat, transpose_a=True) / flat.shape[0]


def _vgg(shape, vgg_weights):
    """Returns the network up to the layers in use, and its SHA-256."""
    try:
        vgg = keras.applications.VGG19(
            include_top=False,
            # The weights depend only on the number of channels.
            weights="imagenet" if vgg_weights == "imagenet" else None,
            input_shape=shape,
        )
        if vgg_weights not in (None, "imagenet"):
            vgg.load_weights(vgg_weights)
    # Keras raises a bare Exception if a download fails.
    except Exception as error:
        raise ValueError(
            '`vgg_weights` must be None, "imagenet" (a download) or the path '
            "of a file of weights of keras.applications.VGG19(include_top="
            f"False). Received: vgg_weights={checks.shown(vgg_weights)}: "
            f"{checks.shortened(error)}"
        ) from error
    if vgg_weights is None:
        for i, layer in enumerate(vgg.layers):
            if layer.weights:
                kernel, bias = layer.weights
                kernel.assign(keras.initializers.HeNormal(i)(kernel.shape))
                bias.assign(np.zeros(bias.shape))
    vgg.trainable = False
    outputs = (*STYLE_LAYERS, CONTENT_LAYER)
    vgg = keras.Model(vgg.input, [vgg.get_layer(n).output for n in outputs])
    sha256 = _sha256(*vgg.get_weights())
    return keras.models.clone_model(vgg, clone_function=_fixed), sha256


class _FixedConv2D(keras.layers.Layer):
    """A 3x3 convolution of the VGG networks that is not trained."""

    def __init__(self, layer):
        super().__init__(name=layer.name)
        self.kernel = tf.constant(layer.kernel)
        self.bias = tf.constant(layer.bias)
        flipped = tf.reverse(self.kernel, [0, 1])
        self._flipped = tf.transpose(flipped, [0, 1, 3, 2])

    def call(self, inputs):
        # In a loop, gradients can use tensors of its body, but no constants
        # from outside. These are not copied.
        kernel, flipped = tf.identity(self.kernel), tf.identity(self._flipped)
        outputs = _convolve(inputs, kernel, flipped)
        return tf.nn.relu(outputs + self.bias)


def _fixed(layer):
    """Returns the layer that replaces a layer of VGG19."""
    is_convolution = isinstance(layer, keras.layers.Conv2D)
    return _FixedConv2D(layer) if is_convolution else layer


def _convolve(inputs, kernel, flipped):
    """Returns a convolution with a fast gradient with respect to its inputs.

    The gradient is the convolution with the flipped kernel. On CPUs
    TensorFlow computes it faster than the gradient itself.
    """

    @tf.custom_gradient
    def convolve(inputs):
        outputs = tf.nn.conv2d(inputs, kernel, 1, "SAME")
        return outputs, lambda upstream: _convolve(upstream, flipped, kernel)

    return convolve(inputs)


def _require_pixels(style):
    style = np.asarray(style)
    if (
        style.ndim != 3
        or style.shape[2] != 3
        or style.dtype.kind not in "uif"
        or not 0 <= style.min() <= style.max() <= 255
        # Floats in [0, 1] are another convention.
        or (style.dtype.kind == "f" and style.max() <= 1)
    ):
        raise ValueError(
            "`style` must be an array [height, width, 3] of pixels from 0 to "
            f"255. Received: shape {style.shape}, dtype {style.dtype}, from "
            f"{np.min(style, initial=0)} to {np.max(style, initial=0)}. If "
            "they are from 0 to 1, multiply by 255."
        )
    return style


def _sha256(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()
