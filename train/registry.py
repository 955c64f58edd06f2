"""Names of tasks and rules for the flags; one line each."""

from keras_l2l import rules
from keras_l2l import tasks

# Each is a function of (dataset, data_dir, download).
TASKS = {
    "mlp": lambda dataset, data_dir, download: tasks.ImageClassification(
        dataset, data_dir=data_dir, download=download
    ),
    "quadratics": lambda dataset, data_dir, download: tasks.Quadratics(),
}
RULES = {
    "lstm": rules.CoordinatewiseLSTM,
    # The paper's for quadratics: no preprocessing, no scaling.
    "lstm_raw": lambda: rules.CoordinatewiseLSTM(
        preprocessing=None, output_scale=1.0
    ),
    "adam": rules.Adam,
    "momentum": rules.Momentum,
    "sgd": rules.SGD,
}
