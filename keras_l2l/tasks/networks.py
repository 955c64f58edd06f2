"""Networks of several kinds and sizes on real data, as tasks."""

import functools
import hashlib
import itertools
import os
import random
import typing

import keras
from keras import ops

from keras_l2l.tasks import keras_model
from keras_l2l.tasks.data import datasets
from keras_l2l.tasks.data import text
from keras_l2l.utils import checks

CHARACTERS = "characters"


class Network(typing.NamedTuple):
    """A network: its architecture, data and initialization.

    Attributes:
        kind: One of `KINDS`.
        units: Int, the width: units of each hidden layer, filters of the first
            convolution, or dimension of a transformer's embedding.
        depth: Int, number of hidden layers, convolutions or blocks.
        activation: String, a Keras activation.
        dataset: String, a TFDS data set of labelled images, or
            `"characters"`, the text of `keras_l2l.tasks.data.text`.
        batch_size: Int.
        init_scale: Float, factor on Glorot-uniform initial kernels.
        pooling: Int, size of the average pooling of the images.
    """

    kind: str
    units: int
    depth: int
    activation: str = "relu"
    dataset: str = "l2l_digits"
    batch_size: int = 32
    init_scale: float = 1.0
    pooling: int = 1

    @property
    def architecture(self) -> tuple[str, int, int, str]:
        return self.kind, self.units, self.depth, self.activation


# The networks that presets are tested on, by name. Their architectures are of
# the split `test`.
TEST_NETWORKS = {
    "digits_relu": Network("mlp", 32, 1, "relu", batch_size=128),
    "digits_sigmoid": Network("mlp", 20, 2, "sigmoid", batch_size=128),
    "fashion_relu": Network("mlp", 32, 1, "relu", "fashion_mnist", 128),
    "fashion_sigmoid": Network("mlp", 20, 2, "sigmoid", "fashion_mnist", 128),
    "fashion_wide": Network("mlp", 256, 1, "relu", "fashion_mnist"),
    "fashion_conv": Network("conv_net", 16, 2, "relu", "fashion_mnist"),
    "characters": Network("transformer", 32, 2, "gelu", CHARACTERS, 16),
}


class NetworkTask(keras_model.KerasModelTask):
    """Cross-entropy of a network on minibatches of images or characters.

    Initial kernels are Keras', scaled by `init_scale`. There is no batch
    normalization. Transformers have layer normalization.

    Args:
        network: `Network`.
        data_dir: Folder of prepared TFDS data; `None` for TFDS' default.
        download: Bool, whether TFDS may download data that are not prepared.

    Raises:
        ValueError: if an attribute of the network is out of its range, or its
            data do not fit its kind.
        keras_l2l.tasks.DatasetError: as in `ImageClassification`.
    """

    def __init__(
        self,
        network: Network,
        data_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
    ) -> None:
        if network.kind not in KINDS:
            raise ValueError(
                f"`kind` must be one of {', '.join(KINDS)}. Received: "
                f"kind={checks.shown(network.kind)}"
            )
        network = network._replace(
            init_scale=checks.require_positive(
                "init_scale", network.init_scale
            ),
            **{
                name: checks.require_int(name, getattr(network, name))
                for name in ("units", "depth", "pooling")
            },
        )
        of_text = network.kind == "transformer"
        if of_text != (network.dataset == CHARACTERS):
            raise ValueError(
                'A transformer must be trained on "characters", and no other '
                f"kind of network. Received: {network}"
            )
        if of_text:
            data, classes = text.load_characters(), text.VOCABULARY
        else:
            data, classes = datasets.load_images(
                network.dataset, data_dir, download
            )
        shape = data["train"][0].shape[1:]
        self.network = network
        super().__init__(
            functools.partial(KINDS[network.kind], network, shape, classes),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            data,
            network.batch_size,
            "_".join(map(str, (network.dataset, *network.architecture))),
            metrics=["accuracy"],
        )

    def get_config(self):
        return {**super().get_config(), "network": self.network._asdict()}


def split_of(network):
    """Returns the split to which the architecture of a network belongs.

    Architectures are divided 3 : 1 : 1 into `SPLITS`, whatever the data, so
    that optimizers are tested on architectures that they have not seen.
    """
    tested = {n.architecture for n in TEST_NETWORKS.values()}
    if network.architecture in tested:
        return "test"
    digest = hashlib.sha256(repr(network.architecture).encode()).digest()
    return (*["train"] * 3, "meta_valid", "test")[digest[0] % 5]


class _Drawn(typing.NamedTuple):
    """The values from which the networks of one kind are drawn."""

    units: tuple
    depths: tuple
    activations: tuple
    data: tuple  # Pairs of a data set and a pooling.
    batch_sizes: tuple


_ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "elu")
# Large images take long, for convolutions too long.
_SMALL_IMAGES = (
    ("l2l_digits", 1),
    ("fashion_mnist", 2),
    ("fashion_mnist", 4),
)
_IMAGES = (("fashion_mnist", 1), *_SMALL_IMAGES)
_BATCH_SIZES = (16, 32, 64, 128)
_DRAWN = {
    "mlp": _Drawn(
        (8, 12, 16, 24, 32, 48, 64, 96, 128),
        (1, 2, 3),
        _ACTIVATIONS,
        _IMAGES,
        _BATCH_SIZES,
    ),
    "conv_net": _Drawn(
        (4, 6, 8, 12), (1, 2), _ACTIVATIONS, _SMALL_IMAGES, _BATCH_SIZES
    ),
    "transformer": _Drawn(
        (8, 12, 16, 24),
        (1, 2),
        ("relu", "gelu"),
        ((CHARACTERS, 1),),
        (4, 8, 16),
    ),
}
_INIT_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)


def draw(kind, number, split, seed):
    """Returns random networks of one kind and split, a list.

    Their width, depth, activation, data, batch size and initial scale are
    drawn at random. No two have the same architecture.

    Args:
        kind: One of `KINDS`.
        number: Int.
        split: One of `SPLITS`, to which all architectures belong.
        seed: Int.

    Raises:
        ValueError: if the split has fewer architectures than `number`.
    """
    drawn = _DRAWN[kind]
    networks = [
        Network(kind, *values)
        for values in itertools.product(
            drawn.units, drawn.depths, drawn.activations
        )
    ]
    networks = [n for n in networks if split_of(n) == split]
    number = checks.require_int("number", number, maximum=len(networks))
    generator = random.Random(f"{kind} {seed}")  # noqa: S311
    found = []
    for network in generator.sample(networks, number):
        dataset, pooling = generator.choice(drawn.data)
        found.append(
            network._replace(
                dataset=dataset,
                pooling=pooling,
                batch_size=generator.choice(drawn.batch_sizes),
                init_scale=generator.choice(_INIT_SCALES),
            )
        )
    return found


def _initializer(network):
    """Returns Glorot-uniform, scaled by `init_scale`."""
    return keras.initializers.VarianceScaling(
        network.init_scale**2, mode="fan_avg", distribution="uniform"
    )


def _dense(network, units, activation=None):
    return keras.layers.Dense(
        units, activation=activation, kernel_initializer=_initializer(network)
    )


def _images(network, shape):
    """Returns the first layers of a model for images, a list."""
    scaled = [
        keras.Input(shape),
        keras.layers.Rescaling(1 / 127.5, offset=-1),
    ]
    if network.pooling == 1:
        return scaled
    return [*scaled, keras.layers.AveragePooling2D(network.pooling)]


def _mlp(network, shape, classes):
    model = [*_images(network, shape), keras.layers.Flatten()]
    for _ in range(network.depth):
        model.append(_dense(network, network.units, network.activation))
    return keras.Sequential([*model, _dense(network, classes)])


def _conv_net(network, shape, classes):
    model = _images(network, shape)
    for i in range(network.depth):
        model += [
            keras.layers.Conv2D(
                network.units * 2**i,
                3,
                strides=2,
                padding="same",
                activation=network.activation,
                kernel_initializer=_initializer(network),
            )
        ]
    return keras.Sequential(
        [*model, keras.layers.Flatten(), _dense(network, classes)]
    )


def _transformer(network, shape, classes):
    units = network.units
    characters = keras.Input(shape, dtype="uint8")
    positions = ops.cumsum(ops.ones_like(characters, dtype="int32"), axis=1) - 1
    outputs = keras.layers.Embedding(classes, units)(characters)
    outputs += keras.layers.Embedding(shape[0], units)(positions)
    for _ in range(network.depth):
        inputs = keras.layers.LayerNormalization()(outputs)
        outputs += keras.layers.MultiHeadAttention(
            2, units // 2, kernel_initializer=_initializer(network)
        )(inputs, inputs, use_causal_mask=True)
        inputs = keras.layers.LayerNormalization()(outputs)
        inputs = _dense(network, 4 * units, network.activation)(inputs)
        outputs += _dense(network, units)(inputs)
    outputs = keras.layers.LayerNormalization()(outputs)
    return keras.Model(characters, _dense(network, classes)(outputs))


# Functions of a network, the shape of an example and the number of classes.
KINDS = {"mlp": _mlp, "conv_net": _conv_net, "transformer": _transformer}
