"""Names of tasks and rules for the flags, one line for each."""

import typing

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.tasks import networks
from keras_l2l.tasks import varied_networks


class Data(typing.NamedTuple):
    """The flags of data; see `train.cli.define_data_flags`."""

    dataset: str
    data_dir: str | None
    download: bool
    vgg_weights: str | None


def _mlp(**arguments):
    return lambda data: tasks.ImageClassification(
        data.dataset,
        data_dir=data.data_dir,
        download=data.download,
        **arguments,
    )


def _conv(**arguments):
    return lambda data: tasks.ConvNetClassification(
        data.dataset,
        data_dir=data.data_dir,
        download=data.download,
        **arguments,
    )


def _neural_art(style):
    """Returns a function to a task with a style image of scikit-image."""

    def make(data):
        import skimage.data

        return tasks.NeuralArt(
            getattr(skimage.data, style)(),
            data.dataset,
            data.vgg_weights,
            data_dir=data.data_dir,
            download=data.download,
        )

    return make


def _network(network):
    return lambda data: networks.NetworkTask(
        network, data_dir=data.data_dir, download=data.download
    )


def _networks(split, **numbers):
    """Returns a function to a list of tasks, of random networks.

    Args:
        split: String, the split of their architectures.
        **numbers: Ints, the number of networks of each kind.
    """

    def make(data):
        return [
            _network(network)(data)
            for kind, number in numbers.items()
            for network in networks.draw(kind, number, split, seed=3)
        ]

    return make


def _varied(split):
    return lambda data: varied_networks.varied_networks(
        split, data.data_dir, data.download
    )


# Small enough for meta-training on two CPU cores.
_SMALL = {"filters": 8, "kernel_size": 3, "batch_size": 32}
# The paper's CIFAR-5 and CIFAR-2, and the labels that are in neither.
_5, _2, _OTHERS = ([*range(5)], [0, 1], [*range(5, 10)])

# Functions from `Data` to a task or a list of tasks.
TASKS = {
    "mlp": _mlp(),
    "mlp_40_units": _mlp(layer_sizes=(40,)),
    "mlp_2_layers": _mlp(layer_sizes=(20, 20)),
    "mlp_relu": _mlp(activation="relu"),
    "conv": _conv(),
    "conv_5": _conv(labels=_5),
    "conv_2": _conv(labels=_2),
    "conv_sub": _conv(labels=_OTHERS),
    "small_conv": _conv(**_SMALL),
    "small_conv_5": _conv(labels=_5, **_SMALL),
    "small_conv_2": _conv(labels=_2, **_SMALL),
    "small_conv_sub": _conv(labels=_OTHERS, **_SMALL),
    "neural_art": _neural_art("immunohistochemistry"),
    "neural_art_style_2": _neural_art("hubble_deep_field"),
    "quadratics": lambda data: tasks.Quadratics(),
    # No architecture is among those of the tests.
    "networks": _networks("train", mlp=6, conv_net=2, transformer=3),
    # For ablations, since a short run mostly compiles the unrolls.
    "networks_few": _networks("train", mlp=3, conv_net=1, transformer=1),
    "networks_valid": _networks("meta_valid", mlp=4, conv_net=2, transformer=1),
    "varied": _varied("train"),
    "varied_valid": _varied("meta_valid"),
    # These have their own data.
    **{name: _network(n) for name, n in networks.TEST_NETWORKS.items()},
}
# Kernels and biases of layers whose name begins with `conv`.
_CONVOLUTIONS = r"conv[^/]*/[^/]*(kernel|bias)$"
RULES = {
    "lstm": rules.CoordinatewiseLSTM,
    # The paper's LSTM for quadratics, without preprocessing and scaling.
    "lstm_raw": lambda: rules.CoordinatewiseLSTM(
        preprocessing=None, output_scale=1.0
    ),
    # The constants of the authors' code.
    "lstm_code": lambda: rules.CoordinatewiseLSTM(p=5.0, output_scale=0.01),
    # The paper's rule for CIFAR: an LSTM for convolutions and one for the rest.
    "lstm_conv": lambda: rules.Partition(
        [(_CONVOLUTIONS, rules.CoordinatewiseLSTM())],
        default=rules.CoordinatewiseLSTM(),
    ),
    # One LSTM for each 3x3 filter, as in the authors' code.
    "lstm_kernel": lambda: rules.Partition(
        [(r"conv[^/]*/kernel$", rules.KernelLSTM((3, 3)))],
        default=rules.CoordinatewiseLSTM(),
    ),
    "rnnprop": rules.RNNprop,
    # For updates as large as those of Adam with a learning rate of 0.2.
    "rnnprop_large": lambda: rules.RNNprop(beta=0.9, output_scale=0.3),
    "mlp": rules.MLPRule,
    "momentum_mixture": rules.MomentumMixture,
    "celo": rules.Celo,
    "celo_adam": rules.CeloAdam,
    "celo2": rules.Celo2,
    "lstm_averaging": rules.GlobalAveragingLSTM,
    "ntm_bfgs": rules.NTMBFGS,
    "adam": rules.Adam,
    "momentum": rules.Momentum,
    "sgd": rules.SGD,
}
# Rules that others can imitate. Each has a `learning_rate`.
TEACHERS = ("adam", "momentum", "sgd")
