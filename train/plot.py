"""Draws a figure.

  curves: training curves of an evaluation (--input: JSON of train.evaluate)
  updates: updates that a preset (--preset) proposes by gradient, and Adam's
  pictures: pictures of style transfer (--task) by a preset (--preset) and by
    the baselines of an evaluation (--input)
  meta_training: validation losses of a run (--input: its history.json, or
    the card.json of a preset, for the last stage)
  frameworks: a benchmark (--input: JSON of train.benchmark)

The --input of curves, pictures and benchmarks can also be the name of a result
in train/results/, such as long/fashion_conv.

Examples:

  python -m train.plot --figure=curves --input=runs/e.json \
      --output=runs/curves.png
  python -m train.plot --figure=updates --preset=l2l_digits_mlp \
      --output=runs/updates.png
"""

from absl import flags

import keras_l2l
from keras_l2l import presets
from keras_l2l.evaluation import plots
from keras_l2l.evaluation import proposed_updates
from keras_l2l.evaluation import style_transfer
from keras_l2l.utils import files
from train import cli
from train import committed

OF_FILES = {
    "curves": plots.plot_curves,
    "meta_training": plots.plot_meta_training,
    "frameworks": plots.plot_frameworks,
}


# The flags that a figure requires, if not only --input.
SOURCES = {"updates": ["preset"], "pictures": ["preset", "input"]}


def define_flags():
    cli.define_task_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_enum(
        "figure",
        "curves",
        [*OF_FILES, "updates", "pictures"],
        "Figure to draw.",
    )
    flags.DEFINE_string("input", None, "JSON file or name of results.")
    flags.DEFINE_string("preset", None, "Name or folder of a preset.")
    flags.DEFINE_multi_integer(
        "steps",
        [0, 10, 30, 90],
        "Inner steps that --figure=updates shows, in increasing order.",
    )
    flags.DEFINE_string("output", None, "New figure file.", required=True)


def main():
    values = flags.FLAGS
    sources = SOURCES.get(values.figure, ["input"])
    for source in sources:
        if values[source].value is None:
            raise ValueError(
                f"--figure={values.figure} must be drawn from --{source}. "
                "Received: none."
            )
    files.require_new(values.output)
    if values.figure == "pictures":
        draw_pictures(
            values.preset,
            cli.make_task(values.task),
            committed.read(values.input),
            values.output,
        )
    elif values.figure == "updates":
        preset = presets.load_preset(values.preset)
        found = proposed_updates.proposed_updates(
            preset.rule,
            preset.meta_params,
            cli.make_task(values.task),
            values.steps,
        )
        plots.plot_updates(found, values.output)
    else:
        plot = OF_FILES[values.figure]
        content = committed.read(values.input)
        # A model card holds several stages.
        content = content.get("meta_training", [content])[-1]
        plot(content, values.output)
    print(f"Written: {values.output}")


def draw_pictures(preset, task, results, output):
    """Draws pictures of style transfer, by a preset and by the baselines.

    Args:
        preset: Name or folder of a preset.
        task: `keras_l2l.tasks.NeuralArt`.
        results: Dict as from `keras_l2l.evaluation.evaluate`.
        output: Path of a new figure.
    """
    optimizer = keras_l2l.LearnedOptimizer.from_preset(preset)
    optimizer.set_num_steps(results["horizon"])
    config = optimizer.get_config()
    found = style_transfer.pictures(
        task, lambda: keras_l2l.LearnedOptimizer.from_config(config), results
    )
    plots.plot_pictures(found, output)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
