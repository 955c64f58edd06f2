"""Names of tasks and rules for the flags; one line each."""

from keras_l2l import rules
from keras_l2l import tasks


def _mlp(**arguments):
    return lambda dataset, data_dir, download: tasks.ImageClassification(
        dataset, data_dir=data_dir, download=download, **arguments
    )


def _conv(**arguments):
    return lambda dataset, data_dir, download: tasks.ConvNetClassification(
        dataset, data_dir=data_dir, download=download, **arguments
    )


# What two CPU cores can meta-train on.
_SMALL = {"filters": 8, "kernel_size": 3, "batch_size": 32}
# The paper's CIFAR-5 and CIFAR-2, and the labels that neither has.
_5, _2, _OTHERS = ([*range(5)], [0, 1], [*range(5, 10)])


# Each is a function of (dataset, data_dir, download).
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
    "quadratics": lambda dataset, data_dir, download: tasks.Quadratics(),
}
RULES = {
    "lstm": rules.CoordinatewiseLSTM,
    # The paper's for quadratics: no preprocessing, no scaling.
    "lstm_raw": lambda: rules.CoordinatewiseLSTM(
        preprocessing=None, output_scale=1.0
    ),
    # The constants of the authors' code.
    "lstm_code": lambda: rules.CoordinatewiseLSTM(p=5.0, output_scale=0.01),
    # The paper's for CIFAR: one LSTM for convolutions, one for the rest.
    "lstm_conv": lambda: rules.Partition(
        [("conv", rules.CoordinatewiseLSTM())],
        default=rules.CoordinatewiseLSTM(),
    ),
    "adam": rules.Adam,
    "momentum": rules.Momentum,
    "sgd": rules.SGD,
}
