"""Adds the preset of a finished run to the package, with a model card.

The card describes the meta-training and the results of the preset, read from
the files of the run. Example:

  python -m train.ship --run_dir=runs/demo --name=l2l_digits_mlp \
      --command="make demo" --description="..." --limits="..." \
      --use_for="..." --cost="..." --loses="..."
"""

import pathlib
import shutil

from absl import flags

from keras_l2l import presets
from keras_l2l.utils import files
from train import cli
from train import evaluate

# What a card says in words; the table of presets has the three short ones.
_TEXTS = {
    "description": "One line.",
    "limits": "Known limits.",
    "use_for": "What to use it for, in a few words.",
    "cost": "Time and memory, against Adam's.",
    "loses": "Where it loses, in a few words.",
    "command": "Command of the meta-training.",
}


def define_flags():
    flags.DEFINE_string(
        "run_dir", None, "Folder of train.meta_train.", required=True
    )
    flags.DEFINE_string("name", None, "Name of the preset.", required=True)
    for name, meaning in _TEXTS.items():
        flags.DEFINE_string(name, None, meaning, required=True)


def main():
    values = flags.FLAGS
    run_dir = pathlib.Path(values.run_dir)
    card = make_card(run_dir, {name: values[name].value for name in _TEXTS})
    directory = files.require_empty(
        pathlib.Path(presets.__file__).parent / "weights" / values.name
    )
    shutil.copytree(run_dir / "preset", directory)
    files.write_json(directory / "card.json", card)
    print(f"Written: {directory}")


def make_card(run_dir, texts):
    """Returns the model card of a finished run, a JSON-able dict.

    Args:
        run_dir: Path of the run, with its `evaluation*.json`.
        texts: Dict of the strings `description`, `limits`, `use_for`, `cost`,
            `loses` and `command`.

    Raises:
        ValueError: if an evaluation is not of the meta-parameters in the run's
            preset.
    """
    evaluations = []
    for path in sorted(run_dir.glob("evaluation*.json")):
        evaluation = evaluate.read(path, run_dir / "preset")
        # Cards are for people, so the curves and most baselines are left out.
        evaluation["results"] = [
            {k: v for k, v in r.items() if k not in ("losses", "losses_ci95")}
            for r in evaluation["results"]
            if r["tuned_for"] is None or r["optimizer"].startswith("adam")
        ]
        _shorten(evaluation["task_config"])
        evaluations.append(evaluation)
    return {
        **texts,
        # The package's own, in the words of model hubs.
        "license": "apache-2.0",
        "meta_training": [
            _stage(folder)
            for folder in sorted(run_dir.glob("stage_*")) or [run_dir]
        ],
        "evaluations": evaluations,
    }


def _stage(folder):
    """Returns the configuration and the validations of a run or a stage."""
    config, history = (
        files.read_json(folder / f"{name}.json")
        for name in ("config", "history")
    )
    for tasks in (config["task"], config["validation"]["task"] or []):
        for task in tasks if isinstance(tasks, list) else [tasks]:
            _shorten(task["config"])
    return {
        "config": config,
        "seconds": history["seconds"],
        "validation": history["validation"],
    }


def _shorten(config):
    """Removes the Keras model of a task that names its network."""
    if "network" in config:
        del config["model"]
    # Of `Varied`, whose tasks are those of the package.
    if "task" in config:
        config["task"]["config"].pop("model", None)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
