"""Compares learned optimizers with tuned SGD, RMSprop, Adam and NAG.

The learning rates of the baselines are tuned on other data and seeds than the
reported ones. Prints a table and writes --output (JSON). Examples:

  python -m train.evaluate --preset=runs/digits/preset --output=runs/e.json
  python -m train.evaluate --preset=runs/celo --preset=runs/celo_adam \
      --tuned=adam --horizon=2000 --output=runs/celo.json
"""

import functools
import pathlib

from absl import flags

import keras_l2l
from keras_l2l import evaluation
from keras_l2l import presets as presets_lib
from keras_l2l import tasks
from keras_l2l.evaluation import summary
from keras_l2l.presets import named_arrays
from keras_l2l.utils import files
from train import cli
from train import committed
from train import experiments


def define_flags():
    cli.define_task_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_multi_string(
        "preset",
        [],
        "Name or folder of a preset. Can be repeated. Without it, only "
        "baselines are evaluated.",
    )
    flags.DEFINE_bool(
        "guarded",
        False,
        "Evaluate presets behind a guard, with Adam as the fallback.",
    )
    flags.DEFINE_integer("horizon", 100, "Inner steps.")
    flags.DEFINE_integer("seeds", 20, "Reported seeds.", lower_bound=1)
    flags.DEFINE_integer(
        "tuning_seeds", 10, "Seeds to tune baselines on.", lower_bound=1
    )
    flags.DEFINE_string(
        "baselines",
        None,
        "Use the baselines of an earlier evaluation of the same comparison "
        "instead of tuning them again: a JSON file, or the name of a result in "
        "train/results/, such as long/fashion_conv.",
    )
    flags.DEFINE_enum(
        "split",
        "test",
        tasks.SPLITS,
        "Data that models are trained on: test, which was not used in "
        "meta-training, or another split, to measure models on test data.",
    )
    flags.DEFINE_multi_enum(
        "tuned",
        list(evaluation.BASELINES),
        list(evaluation.BASELINES),
        "Baselines to tune. Default: all.",
    )
    flags.DEFINE_integer(
        "block",
        1,
        "Number of steps over which losses are averaged. The last mean is the "
        "final loss. For long training runs, as single losses are noisy.",
    )
    flags.DEFINE_multi_float(
        "learning_rates",
        list(evaluation.LEARNING_RATES),
        "Learning rates to tune baselines over.",
    )
    flags.DEFINE_string("output", None, "New JSON file.", required=True)


def main():
    values = flags.FLAGS
    if values.baselines is not None and values["tuned"].present:
        raise ValueError(
            "--tuned must not be given with --baselines, which have been "
            "tuned. Received: both. Leave one of them out."
        )
    test = experiments.Test(
        values.task,
        values.horizon,
        values.seeds,
        values.tuning_seeds,
        split=values.split,
        block=values.block,
        learning_rates=tuple(values.learning_rates),
        guarded=values.guarded,
    )
    compare(values.preset, test, values.output, values.baselines, values.tuned)


def compare(
    presets, test, output, baselines=None, tuned=tuple(evaluation.BASELINES)
):
    """Evaluates presets, prints the table and writes the result.

    Args:
        presets: List of names or folders of presets. A single preset is called
            `learned` in the results (or `guarded`), and several presets are
            called by the last part of their paths.
        test: `train.experiments.Test`.
        output: Path of a new JSON file.
        baselines: Path of the JSON file of an earlier evaluation, or the name
            of a committed result, or `None`.
        tuned: Names of baselines to tune, of `evaluation.BASELINES`.

    Raises:
        ValueError: if two presets have the same name, or that of a baseline.
    """
    output = files.require_new(output)
    names = [pathlib.Path(preset).name for preset in presets]
    if len(names) == 1:
        names = ["guarded" if test.guarded else "learned"]
    others = {*evaluation.BASELINES, *evaluation.UNTUNED}
    if len(set(names) - others) < len(names):
        raise ValueError(
            "The last parts of presets must differ from each other and from "
            f"{', '.join(sorted(others))}. Received: "
            f"{', '.join(map(str, presets))}. Rename or copy a folder."
        )
    # Read first, so that a wrong preset fails before minutes of tuning.
    load = presets_lib.guarded if test.guarded else presets_lib.load_preset
    optimizers = [
        keras_l2l.LearnedOptimizer(rule=load(preset)) for preset in presets
    ]
    task = cli.make_task(test.task, test.dataset)
    for optimizer in optimizers:
        optimizer.set_num_steps(test.horizon, task.steps_per_epoch(test.split))
    first = 0 if test.split == "test" else test.seeds
    result = evaluation.evaluate(
        {
            name: functools.partial(
                keras_l2l.LearnedOptimizer.from_config, optimizer.get_config()
            )
            for name, optimizer in zip(names, optimizers, strict=True)
        },
        task,
        test.horizon,
        split=test.split,
        seeds=range(test.seeds),
        # Tuning and reported seeds differ even if the split is the same.
        tuning_split="meta_valid" if test.split == "test" else test.split,
        tuning_seeds=range(first, first + test.tuning_seeds),
        baselines={name: evaluation.BASELINES[name] for name in tuned},
        earlier=baselines and committed.read_baselines(baselines, task),
        learning_rates=test.learning_rates,
        block=test.block,
        verbose=1,
    )
    of_presets = {
        name: {"preset": str(preset), "meta_params_sha256": _sha256(optimizer)}
        for name, preset, optimizer in zip(
            names, presets, optimizers, strict=True
        )
    }
    # A single preset, as in most files, is described at the top level.
    alone = {"presets": of_presets}
    if len(presets) == 1:
        (alone,) = of_presets.values()
    content = {**alone, "baselines": baselines, **result}
    output = files.write_new(output, files.to_json(content))
    print(summary.format_table(result))
    print(f"Written: {output}")


def read(path, preset):
    """Reads an evaluation in the folder of a run.

    Args:
        path: Path of the JSON file.
        preset: Name or folder of the run's preset.

    Raises:
        ValueError: if the evaluation is not of the preset's meta-parameters.
    """
    evaluation = files.read_json(path)
    sha256 = _sha256(keras_l2l.LearnedOptimizer.from_preset(preset))
    if evaluation.get("meta_params_sha256") != sha256:
        raise ValueError(
            "All evaluations in a run's folder must be of its preset. "
            f"Received: {path}, of other meta-parameters. Evaluate again."
        )
    return evaluation


def _sha256(optimizer):
    _, sha256 = named_arrays.checked(optimizer.rule, optimizer.meta_params)
    return sha256


if __name__ == "__main__":
    define_flags()
    cli.run(main)
