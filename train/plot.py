"""Draws the training curves of an evaluation.

Example:

  python -m train.plot --evaluation=runs/e.json --output=runs/curves.png
"""

from absl import flags

from keras_l2l import plots
from keras_l2l import runs
from train import cli


def define_flags():
    flags.DEFINE_string(
        "evaluation", None, "JSON file of train.evaluate.", required=True
    )
    flags.DEFINE_string("output", None, "New figure file.", required=True)


def main():
    values = flags.FLAGS
    plots.plot_curves(runs.read_json(values.evaluation), values.output)
    print(f"Written: {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
