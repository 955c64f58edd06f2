"""Names of tasks and rules for the flags; one line each."""

from keras_l2l import rules
from keras_l2l import tasks


def _mlp(**arguments):
    return lambda dataset, data_dir, download: tasks.ImageClassification(
        dataset, data_dir=data_dir, download=download, **arguments
    )


# Each is a function of (dataset, data_dir, download).
TASKS = {
    "mlp": _mlp(),
    "mlp_40_units": _mlp(layer_sizes=(40,)),
    "mlp_2_layers": _mlp(layer_sizes=(20, 20)),
    "mlp_relu": _mlp(activation="relu"),
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
    "adam": rules.Adam,
    "momentum": rules.Momentum,
    "sgd": rules.SGD,
}
