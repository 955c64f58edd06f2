"""Writes a SavedModel that runs in TensorFlow without Keras.

With --preset it holds an update rule, for any vector. With --model it holds a
training step, which continues the training of a saved model. Examples:

  python -m train.export --preset=runs/digits/preset --output=exported/rule
  python -m train.export --model=model.keras --batch=batch.npz \
      --output=exported/step
"""

import zipfile

import keras
import numpy as np
from absl import flags

import keras_l2l
from keras_l2l import export
from train import cli

_NOT_A_BATCH = (
    EOFError,
    IndexError,
    KeyError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
)


def define_flags():
    flags.DEFINE_string("preset", None, "Name or folder of a preset.")
    flags.DEFINE_string("model", None, "File of a compiled model (.keras).")
    flags.DEFINE_string(
        "batch",
        None,
        "With --model: .npz file of arrays x and y, a sample batch. Only "
        "their shapes and dtypes are used.",
    )
    flags.DEFINE_string("output", None, "New or empty folder.", required=True)
    flags.mark_flags_as_mutual_exclusive(["preset", "model"], required=True)


def read_batch(path):
    """Returns the arrays `(x, y)` of an .npz file."""
    try:
        arrays = np.load(path or "", allow_pickle=False)
        return arrays["x"], arrays["y"]
    except _NOT_A_BATCH:
        raise ValueError(
            "--batch must be an .npz file with arrays x and y. Received: "
            f"{path!r}. Write it with np.savez(path, x=x[:1], y=y[:1])."
        ) from None


def main():
    values = flags.FLAGS
    if values.preset:
        optimizer = keras_l2l.LearnedOptimizer.from_preset(values.preset)
        export.export_update_rule(optimizer, values.output)
    else:
        export.export_training_step(
            keras.models.load_model(values.model),
            values.output,
            read_batch(values.batch),
        )
    print(f"Written: {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
