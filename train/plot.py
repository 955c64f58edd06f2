"""Draws the training curves of an evaluation, or what a benchmark found.

Examples:

  python -m train.plot --evaluation=runs/e.json --output=runs/curves.png
  python -m train.plot --frameworks=runs/f.json --output=runs/bars.png
  python -m train.plot --scaling=runs/s.json --output=runs/scaling.png
"""

from absl import flags

from keras_l2l import plots
from keras_l2l import runs
from train import cli

# Flag, whose file it takes, and what draws that.
FIGURES = {
    "evaluation": ("train.evaluate", plots.plot_curves),
    "frameworks": (
        "train.benchmark --benchmark=frameworks",
        plots.plot_frameworks,
    ),
    "scaling": ("train.benchmark --benchmark=scaling", plots.plot_scaling),
}


def define_flags():
    for name, (script, _) in FIGURES.items():
        flags.DEFINE_string(name, None, f"JSON file of {script}.")
    flags.mark_flags_as_mutual_exclusive([*FIGURES], required=True)
    flags.DEFINE_string("output", None, "New figure file.", required=True)


def main():
    values = flags.FLAGS
    for name, (_, plot) in FIGURES.items():
        if values[name].value is not None:
            plot(runs.read_json(values[name].value), values.output)
    print(f"Written: {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
