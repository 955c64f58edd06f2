"""Compares a learned optimizer with tuned SGD, RMSprop, Adam and NAG.

The baselines' learning rates are tuned on other data and seeds than those
reported. Prints a table and writes --output (JSON). Example:

  python -m train.evaluate --preset=runs/digits/preset --output=runs/e.json
"""

from absl import flags

import keras_l2l
from keras_l2l import arrays
from keras_l2l import evaluation
from keras_l2l import results
from keras_l2l import runs
from train import cli
from train import experiments


def define_flags():
    cli.define_task_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_string(
        "preset", None, "Preset: its name, or its folder.", required=True
    )
    flags.DEFINE_integer("horizon", 100, "Inner steps.")
    flags.DEFINE_integer("seeds", 20, "Optimizees reported.", lower_bound=1)
    flags.DEFINE_integer(
        "tuning_seeds", 10, "Optimizees tuned on.", lower_bound=1
    )
    flags.DEFINE_string(
        "baselines",
        None,
        "JSON file, an evaluation of another preset in the same comparison: "
        "take its baselines, instead of tuning them again.",
    )
    flags.DEFINE_string("output", None, "New JSON file.", required=True)


def main():
    values = flags.FLAGS
    test = experiments.Test(
        values.task, values.horizon, values.seeds, values.tuning_seeds
    )
    compare(values.preset, test, values.output, values.baselines)


def compare(preset, test, output, baselines=None):
    """Evaluates a preset, prints the table and writes the result.

    Args:
        preset: Name or folder of a preset.
        test: `train.experiments.Test`.
        output: Path of a new JSON file.
        baselines: Path of the JSON file of an earlier one, or `None`.
    """
    output = runs.require_new(output)
    # Read once: a wrong preset must not show up after minutes of tuning.
    optimizer = keras_l2l.LearnedOptimizer.from_preset(preset)
    optimizer.set_num_steps(test.horizon)
    config = optimizer.get_config()
    result = evaluation.evaluate(
        lambda: keras_l2l.LearnedOptimizer.from_config(config),
        cli.make_task(test.task, test.dataset),
        test.horizon,
        seeds=range(test.seeds),
        tuning_seeds=range(test.tuning_seeds),
        earlier=None if baselines is None else runs.read_json(baselines),
    )
    sha256 = _sha256(optimizer)
    runs.write_json(
        output,
        {"preset": str(preset), "meta_params_sha256": sha256, **result},
    )
    print(results.format_table(result))
    print(f"Written: {output}")


def read(path, preset):
    """Returns an evaluation in the folder of a run.

    Args:
        path: Path of the JSON file.
        preset: Name or folder of the run's preset.

    Raises:
        ValueError: if it is of other meta-parameters than the preset's.
    """
    evaluation = runs.read_json(path)
    sha256 = _sha256(keras_l2l.LearnedOptimizer.from_preset(preset))
    if evaluation.get("meta_params_sha256") != sha256:
        raise ValueError(
            "All evaluations in a run's folder must be of its preset. "
            f"Received: {path}, of other meta-parameters. Evaluate again."
        )
    return evaluation


def _sha256(optimizer):
    _, sha256 = arrays.checked(optimizer.rule, optimizer.meta_params)
    return sha256


if __name__ == "__main__":
    define_flags()
    cli.run(main)
