"""Wrote the files of this folder, with the package as it was at 2ef09ad.

The modules lay side by side then: what was saved must load after any move.
"""

import json
import pathlib

import keras
import numpy as np

import keras_l2l
from keras_l2l import rules

FOLDER = pathlib.Path(__file__).parent
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X[:, :1] ** 2


def optimizers():
    """Yields names and optimizers."""
    lstm = rules.CoordinatewiseLSTM(units=[4])
    yield "default", keras_l2l.LearnedOptimizer()
    yield (
        "partition",
        keras_l2l.LearnedOptimizer(
            rule=rules.Partition([("bias", rules.Adam(1e-2))], default=lstm)
        ),
    )
    yield (
        "guarded",
        keras_l2l.LearnedOptimizer(
            rule=rules.Guarded(rules.MLPRule(), rules.SGD(1e-2))
        ),
    )


def main():
    losses = {}
    for name, optimizer in optimizers():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, "tanh"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizer, "mse")
        model.fit(X, Y, epochs=3, batch_size=16, verbose=0)
        model.save(FOLDER / f"{name}.keras")
        optimizer.save_to_preset(FOLDER / name)
        history = model.fit(X, Y, epochs=3, batch_size=16, verbose=0)
        losses[name] = history.history["loss"]
    (FOLDER / "losses.json").write_text(json.dumps(losses, indent=2) + "\n")


if __name__ == "__main__":
    main()
