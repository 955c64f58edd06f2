"""Draws the training curves of an evaluation.

Example:

  python -m train.plot --evaluation=runs/e.json --output=runs/curves.png
"""

import json
import pathlib

from absl import flags

from keras_l2l import plots
from train import cli


def define_flags():
    flags.DEFINE_string(
        "evaluation", None, "JSON file of train.evaluate.", required=True
    )
    flags.DEFINE_string("output", None, "New figure file.", required=True)


def main():
    values = flags.FLAGS
    evaluation = json.loads(pathlib.Path(values.evaluation).read_text())
    plots.plot_curves(evaluation, values.output)
    print(f"Written: {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
