"""Draws a figure.

  curves: training curves of an evaluation (--input: JSON of train.evaluate)
  updates: what a preset (--preset) would do at which gradient, beside Adam
  frameworks, scaling: benchmarks (--input: JSON of train.benchmark)

Examples:

  python -m train.plot --figure=curves --input=runs/e.json \
      --output=runs/curves.png
  python -m train.plot --figure=updates --preset=l2l_digits_mlp \
      --output=runs/updates.png
"""

from absl import flags

from keras_l2l import analysis
from keras_l2l import plots
from keras_l2l import presets
from keras_l2l import runs
from train import cli

OF_FILES = {
    "curves": plots.plot_curves,
    "frameworks": plots.plot_frameworks,
    "scaling": plots.plot_scaling,
}


def define_flags():
    cli.define_task_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_enum("figure", "curves", [*OF_FILES, "updates"], "Which one.")
    flags.DEFINE_string("input", None, "JSON file of results.")
    flags.DEFINE_string("preset", None, "Preset: its name, or its folder.")
    flags.DEFINE_string("output", None, "New figure file.", required=True)


def main():
    values = flags.FLAGS
    source = "preset" if values.figure == "updates" else "input"
    if values[source].value is None:
        raise ValueError(
            f"--figure={values.figure} must be drawn from --{source}. "
            "Received: none."
        )
    runs.require_new(values.output)
    if values.figure == "updates":
        preset = presets.load_preset(values.preset)
        found = analysis.proposed_updates(
            preset.rule, preset.meta_params, cli.make_task(values.task)
        )
        plots.plot_updates(found, values.output)
    else:
        plot = OF_FILES[values.figure]
        plot(runs.read_json(values.input), values.output)
    print(f"Written: {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
