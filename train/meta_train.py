"""Meta-trains an update rule on a task.

Writes to --output_dir: preset/ (for LearnedOptimizer.from_preset),
config.json (all that reproduces the run), history.json, checkpoints/, and
logs/ for TensorBoard. The same flags and --resume continue a run that was
stopped or killed. Examples:

  python -m train.meta_train --task=mlp --output_dir=runs/digits
  python -m train.meta_train --experiment=quadratics --output_dir=runs/q

An experiment of several stages, each of which starts from the preset of the one
before, has such a folder for each, stage_1/ and so on, beside the preset/ of
the last.
"""

import json
import os
import pathlib

from absl import flags

import keras_l2l
from keras_l2l import presets
from keras_l2l.meta_training import replay
from keras_l2l.meta_training import replicas
from keras_l2l.meta_training import search
from keras_l2l.meta_training import task_check
from keras_l2l.utils import files
from train import cli
from train import meta_flags
from train import option_flags
from train import registry
from train import stages as stages_lib


def main():
    values = flags.FLAGS
    stages = stages_lib.stages_of(values)
    if values.replay is not None:
        stages = [stages_lib.stage_in(values.output_dir, stages)]
    stages_lib.set_missing(stages[0])
    if values.distribute == "workers":
        _require_cluster(os.environ.get("TF_CONFIG"))
    # Before anything else: workers find each other before TensorFlow starts.
    strategy = meta_flags.STRATEGIES[values.distribute]()
    _require_compatible(values, stages)
    rule, meta_params = _start(values)
    stages = stages_lib.with_tasks(values, stages, rule)
    stage, task = stages[0]
    stages_lib.set_missing(stage)
    if values.replay is not None:
        found = replay.replay(rule, task, values.output_dir, values.replay)
        print(files.to_json(found).decode())
        return
    if values.check:
        found = task_check.inspect_task(
            rule, task, **option_flags.arguments(values)
        )
        print(files.to_json(found).decode())
        return
    if values.search is not None:
        search.meta_search(
            rule,
            task,
            values.output_dir,
            values.search,
            **option_flags.arguments(values),
        )
    elif len(stages) > 1:
        _run_stages(values, stages, rule, meta_params, strategy)
    else:
        keras_l2l.meta_train(
            rule,
            task,
            values.output_dir,
            meta_params=meta_params,
            resume=values.resume,
            strategy=strategy,
            **option_flags.arguments(values),
        )
    print(f"Preset: {values.output_dir}/preset")


def _require_compatible(values, stages):
    """Raises ValueError if flags exclude each other."""
    if values.distribute != "none" and (
        values.check or values.search or values.replay is not None
    ):
        raise ValueError(
            "--check, --search and --replay must run on one device. Received: "
            f"--distribute={values.distribute}."
        )
    if values.init_preset and (values.check or values.search):
        raise ValueError(
            "--check and --search must start with fresh meta-parameters. "
            f"Received: --init_preset={values.init_preset}."
        )
    if values.search is not None and (
        len(stages) > 1 or values["meta_learning_rate"].present
    ):
        raise ValueError(
            "--search must be of one stage, whose meta-learning rate it draws. "
            f"Received: it with {len(stages)} stages and "
            f"--meta_learning_rate={values.meta_learning_rate}. Search with "
            "the flags of a stage instead of --experiment, and without that."
        )


def _run_stages(values, stages, rule, meta_params, strategy):
    """Meta-trains in `stage_1`, `stage_2`, ..., and keeps the last preset."""
    output_dir = pathlib.Path(values.output_dir)
    is_chief = replicas.Replicas(strategy).is_chief
    if is_chief and not (values.resume and (output_dir / "stage_1").exists()):
        files.require_empty(output_dir)
    for number, (stage, task) in enumerate(stages, 1):
        stages_lib.set_missing(stage)
        print(f"Stage {number} of {len(stages)}")
        folder = output_dir / f"stage_{number}"
        meta_params = keras_l2l.meta_train(
            rule,
            task,
            folder,
            meta_params=meta_params,
            resume=values.resume,
            strategy=strategy,
            **option_flags.arguments(values),
        ).meta_params
    if is_chief:
        last = presets.load_preset(folder / "preset")
        presets.replace_preset(
            last.rule, last.meta_params, output_dir / "preset", last.horizon
        )


def _start(values):
    """Returns a rule, and its meta-parameters if they come from a preset."""
    if values.init_preset is None:
        return registry.RULES[values.rule](), None
    if values["rule"].present:
        raise ValueError(
            "--rule must not be given with --init_preset, whose rule it is. "
            f"Received: --rule={values.rule}."
        )
    preset = presets.load_preset(values.init_preset)
    return preset.rule, preset.meta_params


def _require_cluster(tf_config):
    try:
        found = {"cluster", "task"} <= set(json.loads(tf_config))
    except (TypeError, ValueError):
        found = False
    if not found:
        raise ValueError(
            "With --distribute=workers, the environment variable TF_CONFIG "
            'must be JSON with "cluster" and "task", as in '
            "docs/long_and_distributed_runs.md. "
            f"Received: TF_CONFIG={tf_config!r}. For the devices of this "
            "machine alone, take --distribute=mirrored."
        )


if __name__ == "__main__":
    meta_flags.define_flags()
    flags.adopt_module_key_flags(meta_flags)
    cli.run(main)
