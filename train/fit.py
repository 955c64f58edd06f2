"""Trains a Keras classifier with `fit` and a learned optimizer.

Prints the progress and the accuracy on the data set's test images. Example:

  python -m train.fit --preset=runs/digits/preset
"""

import keras
from absl import flags

import keras_l2l
from keras_l2l.tasks.data import datasets
from train import cli


def define_flags():
    flags.DEFINE_string(
        "preset", None, "Name or folder of a preset.", required=True
    )
    cli.define_data_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_integer("epochs", 10, "Epochs of the training.")
    flags.DEFINE_integer("seed", 0, "Seed of the run.")


def main():
    values = flags.FLAGS
    optimizer = keras_l2l.LearnedOptimizer.from_preset(values.preset)
    data, num_classes = datasets.load_images(
        values.dataset, values.data_dir, values.download
    )
    keras.utils.set_random_seed(values.seed)
    model = keras.Sequential(
        [
            keras.Input(data["train"][0].shape[1:]),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(20, activation="sigmoid"),
            keras.layers.Dense(num_classes),
        ]
    )
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        *data["train"],
        batch_size=128,
        epochs=values.epochs,
        validation_data=data["meta_valid"],
        callbacks=[keras_l2l.TrainingLength()],
        verbose=2,
    )
    loss, accuracy = model.evaluate(*data["test"], verbose=0)
    print(f"Test loss {loss:.3f}, test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
