"""Small networks of many kinds, which differ from episode to episode.

The default preset is meta-trained on those of the split `train`; its
meta-parameters are chosen on those of `meta_valid`, which are larger and of
other architectures.
"""

import functools
import typing

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras import ops

from keras_l2l.tasks.data import datasets
from keras_l2l.tasks.data import text
from keras_l2l.tasks.keras_model import KerasModelTask
from keras_l2l.tasks.varied import Varied

# Fewest examples that an episode is trained on.
_FEWEST = 200
# Images are pooled to 7 x 7, and sequences cut to 16 characters.
_POOLING, _CONTEXT, _EXAMPLES = 4, 16, 20_000
_BUCKETS = 2000
_WARM, _STREAMS = 0.2, 0.3


class _Kind(typing.NamedTuple):
    """What is learned.

    Attributes:
        data: Function from images to a dict of `(x, y)` for each split.
        loss: As for `keras.Model.compile`.
        classes: Int or `None`, as for `Varied`.
    """

    data: typing.Callable
    loss: typing.Any
    classes: int | None


def varied_networks(split, data_dir=None, download=False):
    """Returns a list of `Varied` tasks.

    Args:
        split: `"train"` or `"meta_valid"`.
        data_dir, download: Of Fashion-MNIST, as for `ImageClassification`.
    """
    data = {kind: data_of(kind, data_dir, download) for kind in _KINDS}
    return [
        Varied(
            KerasModelTask(
                network.make_model,
                network.loss,
                data[network.kind],
                network.batch_size,
                network.name,
            ),
            fewest=_FEWEST,
            classes=_KINDS[network.kind].classes,
            warm=_WARM,
            streams=_STREAMS,
        )
        for network in networks(split)
    ]


class Network(typing.NamedTuple):
    """A small network, and what it learns.

    Attributes:
        name: String.
        kind: String, of its data; see `data_of`.
        batch_size: Int.
        make_model: Function without arguments that returns a `keras.Model`.
        loss: As for `keras.Model.compile`.
    """

    name: str
    kind: str
    batch_size: int
    make_model: typing.Callable
    loss: typing.Any


def networks(split):
    """Returns the list of `Network`s of `"train"` or `"meta_valid"`."""
    return [
        Network(
            name,
            kind,
            batch_size,
            functools.partial(make, *arguments),
            _KINDS[kind].loss,
        )
        for name, kind, batch_size, make, *arguments in _NETWORKS[split]
    ]


def data_of(kind, data_dir=None, download=False):
    """Returns a dict from splits to pairs `(x, y)` of tensors.

    Args:
        kind: String, of a `Network`.
        data_dir, download: As for `varied_networks`.
    """
    return _KINDS[kind].data(_images(data_dir, download))


@functools.lru_cache(1)
def _images(data_dir, download):
    """Returns a dict from splits to images in [-1, 1] and their labels."""
    found = {}
    loaded, _ = datasets.load_images("fashion_mnist", data_dir, download)
    for split, (x, y) in loaded.items():
        x = tf.cast(x[:_EXAMPLES], tf.float32) / 127.5 - 1
        x = tf.reshape(x, [-1, 28, 28, 1])
        x = tf.nn.avg_pool2d(x, _POOLING, _POOLING, "VALID")[..., 0]
        found[split] = x, tf.cast(y[:_EXAMPLES], tf.int32)
    return found


def _characters(images):
    del images
    return {
        split: tuple(tf.cast(t[:, :_CONTEXT], tf.int32) for t in pair)
        for split, pair in text.load_characters().items()
    }


def _trigrams(images):
    """Returns the character after three, which are one of many buckets."""
    found = {}
    for split, (x, _) in _characters(images).items():
        x = np.asarray(x, "int64")
        codes = (x[:, :-3] * 128 + x[:, 1:-2]) * 128 + x[:, 2:-1]
        bucket = (codes * 2654435761 % 2**32) % _BUCKETS
        pairs = bucket.reshape(-1, 1), x[:, 3:].reshape(-1)
        found[split] = tuple(
            tf.constant(t[:_EXAMPLES], tf.int32) for t in pairs
        )
    return found


def _halves(images):
    """Returns the upper part of an image, and a row of the lower one."""
    return {
        split: (tf.reshape(x[:, :4], [-1, 28]), x[:, 5])
        for split, (x, _) in images.items()
    }


def _same(images):
    return {
        split: (tf.reshape(x, [-1, 49]), tf.reshape(x, [-1, 49]))
        for split, (x, _) in images.items()
    }


def _cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


_KINDS = {
    "images": _Kind(lambda images: images, _cross_entropy(), 10),
    "characters": _Kind(_characters, _cross_entropy(), text.VOCABULARY),
    "trigrams": _Kind(_trigrams, _cross_entropy(), text.VOCABULARY),
    "regression": _Kind(_halves, "mse", None),
    "autoencoder": _Kind(_same, "mse", None),
}


class DrawnDropout(layers.Layer):
    """Dropout with masks that are drawn once: XLA draws slowly on CPUs."""

    def __init__(self, rate, masks=509, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.masks = rate, masks

    def build(self, shape):
        def draw(shape, dtype):
            seed = keras.random.SeedGenerator(0)
            kept = keras.random.uniform(shape, seed=seed) >= self.rate
            return ops.cast(kept, dtype) / (1 - self.rate)

        self.bank = self.add_weight(
            shape=(self.masks, *shape[1:]), initializer=draw, trainable=False
        )
        self.first = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False
        )

    def call(self, inputs, training=False):
        if not training:
            return inputs
        examples = ops.shape(inputs)[0]
        masks = (ops.arange(examples) + self.first) % self.masks
        self.first.assign((self.first + examples) % self.masks)
        return inputs * ops.take(self.bank, masks, axis=0)


class ProductConv2D(layers.Conv2D):
    """A 3 x 3 convolution as one product: XLA's own are slow on CPUs."""

    def call(self, inputs):
        stride = self.strides[0]
        size = -(-inputs.shape[1] // stride)
        x = ops.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        last = stride * (size - 1) + 1
        patches = [
            x[:, i : i + last : stride, j : j + last : stride]
            for i in range(3)
            for j in range(3)
        ]
        kernel = ops.reshape(self.kernel, (-1, self.filters))
        outputs = ops.matmul(ops.concatenate(patches, axis=-1), kernel)
        return outputs if self.bias is None else outputs + self.bias


def _mlp(
    units, activation, normalization=None, dropout=0.0, shape=(7, 7), outputs=10
):
    model = [keras.Input(shape), layers.Flatten()]
    for n in units:
        model.append(layers.Dense(n))
        if normalization:
            model.append(normalization())
        model.append(layers.Activation(activation))
        if dropout:
            model.append(DrawnDropout(dropout))
    return keras.Sequential([*model, layers.Dense(outputs)])


def _regression(units, activation):
    return _mlp(units, activation, shape=(28,), outputs=7)


def _autoencoder(units, code, activation="relu"):
    model = [keras.Input((49,))]
    for n in (*units, code, *units[::-1]):
        model.append(layers.Dense(n, activation=activation))
    return keras.Sequential([*model, layers.Dense(49)])


def _conv(filters, residual=False, normalized=False):
    def convolved(x, n, stride):
        x = ProductConv2D(
            n, 3, stride, padding="same", use_bias=not normalized
        )(x)
        return layers.BatchNormalization()(x) if normalized else x

    inputs = keras.Input((7, 7))
    x = layers.Reshape((7, 7, 1))(inputs)
    for i, n in enumerate(filters):
        x = layers.Activation("relu")(convolved(x, n, 2 if i == 0 else 1))
        if residual:
            x = layers.Activation("relu")(x + convolved(x, n, 1))
    x = layers.GlobalAveragePooling2D()(x) if residual else layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def _rows(units):
    return keras.Sequential(
        [
            keras.Input((7, 7)),
            layers.GRU(units, unroll=True),
            # Changes nothing; earlier runs have it in their configuration.
            DrawnDropout(0.0),
            layers.Dense(10),
        ]
    )


def _language(layer, embedded, units):
    return keras.Sequential(
        [
            keras.Input((_CONTEXT,), dtype="int32"),
            layers.Embedding(text.VOCABULARY, embedded),
            layer(units, return_sequences=True, unroll=True),
            layers.Dense(text.VOCABULARY),
        ]
    )


def _block(x, units, heads, dropout, causal):
    y = layers.LayerNormalization()(x)
    y = layers.MultiHeadAttention(heads, units // heads)(
        y, y, use_causal_mask=causal
    )
    x = x + DrawnDropout(dropout)(y)
    y = layers.LayerNormalization()(x)
    y = layers.Dense(2 * units, activation="gelu")(y)
    return x + DrawnDropout(dropout)(layers.Dense(units)(y))


def _transformer(units, blocks, heads, dropout=0.0):
    inputs = keras.Input((_CONTEXT,), dtype="int32")
    x = layers.Embedding(text.VOCABULARY, units)(inputs)
    x = x + layers.Embedding(_CONTEXT, units)(ops.arange(_CONTEXT))
    for _ in range(blocks):
        x = _block(x, units, heads, dropout, causal=True)
    x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(text.VOCABULARY)(x))


def _vit(units, blocks, heads, dropout):
    inputs = keras.Input((7, 7))
    x = layers.Dense(units)(inputs)
    x = x + layers.Embedding(7, units)(ops.arange(7))
    for _ in range(blocks):
        x = _block(x, units, heads, dropout, causal=False)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def _embeddings(embedded, units):
    return keras.Sequential(
        [
            keras.Input((1,), dtype="int32"),
            layers.Embedding(_BUCKETS, embedded),
            layers.Flatten(),
            *(layers.Dense(n, activation="relu") for n in units),
            layers.Dense(text.VOCABULARY),
        ]
    )


_BATCH, _LAYER = layers.BatchNormalization, layers.LayerNormalization
# Name, kind, batch size, function and its arguments.
_TRAIN = [
    ("mlp", "images", 32, _mlp, (32,), "relu"),
    ("mlp_batch", "images", 32, _mlp, (48, 32), "relu", _BATCH, 0.2),
    ("mlp_layer", "images", 16, _mlp, (24, 24, 24), "tanh", _LAYER),
    ("conv", "images", 32, _conv, (8, 12)),
    ("conv_batch", "images", 32, _conv, (8,), True, True),
    ("gru_rows", "images", 32, _rows, 24),
    ("gru_text", "characters", 8, _language, layers.GRU, 16, 32),
    ("transformer", "characters", 8, _transformer, 16, 1, 2, 0.1),
    ("vit", "images", 32, _vit, 16, 1, 2, 0.1),
    ("embeddings", "trigrams", 32, _embeddings, 8, (24,)),
    ("regression", "regression", 32, _regression, (32, 32), "relu"),
    ("autoencoder", "autoencoder", 32, _autoencoder, (24,), 6),
    # What is right for 16 units is too much for 100 of them.
    ("mlp_broad", "images", 64, _mlp, (160, 96), "gelu"),
    ("conv_broad", "images", 32, _conv, (24, 32), False, True),
    ("gru_broad", "characters", 8, _language, layers.GRU, 32, 96),
    ("transformer_broad", "characters", 8, _transformer, 48, 2, 4, 0.1),
    ("vit_broad", "images", 16, _vit, 48, 2, 4, 0.1),
    ("embeddings_broad", "trigrams", 8, _embeddings, 32, (96,)),
    ("autoencoder_broad", "autoencoder", 32, _autoencoder, (128, 64), 12),
]
_META_VALID = [
    ("mlp_wide", "images", 64, _mlp, (128, 64), "silu", _BATCH, 0.3),
    ("conv_deep", "images", 32, _conv, (16, 24), True, True),
    ("lstm_text", "characters", 16, _language, layers.LSTM, 24, 64),
    ("transformer_deep", "characters", 16, _transformer, 32, 3, 4),
    ("vit_deep", "images", 32, _vit, 32, 3, 4, 0.1),
    ("embeddings_wide", "trigrams", 64, _embeddings, 24, (64, 64)),
    ("regression_wide", "regression", 32, _regression, (128, 128), "gelu"),
    ("autoencoder_wide", "autoencoder", 64, _autoencoder, (96, 48), 8, "gelu"),
]
_NETWORKS = {"train": _TRAIN, "meta_valid": _META_VALID}
