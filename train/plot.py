"""Draws the training curves of an evaluation, or the bars of a benchmark.

Examples:

  python -m train.plot --evaluation=runs/e.json --output=runs/curves.png
  python -m train.plot --frameworks=runs/f.json --output=runs/bars.png
"""

from absl import flags

from keras_l2l import plots
from keras_l2l import runs
from train import cli


def define_flags():
    flags.DEFINE_string("evaluation", None, "JSON file of train.evaluate.")
    flags.DEFINE_string(
        "frameworks",
        None,
        "JSON file of train.benchmark --benchmark=frameworks.",
    )
    flags.mark_flags_as_mutual_exclusive(
        ["evaluation", "frameworks"], required=True
    )
    flags.DEFINE_string("output", None, "New figure file.", required=True)


def main():
    values = flags.FLAGS
    if values.evaluation is not None:
        plots.plot_curves(runs.read_json(values.evaluation), values.output)
    else:
        plots.plot_frameworks(runs.read_json(values.frameworks), values.output)
    print(f"Written: {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
