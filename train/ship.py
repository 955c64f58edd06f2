"""Turns a finished run into a preset of the wheel, with its model card.

The card says how the preset was meta-trained and what it was measured to do,
read from the run's own files. Example:

  python -m train.ship --run_dir=runs/demo --name=l2l_digits_mlp \
      --command="make demo" --description="..." --limits="..."
"""

import pathlib
import shutil

from absl import flags

from keras_l2l import presets
from keras_l2l.utils import files
from train import cli
from train import evaluate


def define_flags():
    flags.DEFINE_string(
        "run_dir", None, "Folder of train.meta_train.", required=True
    )
    flags.DEFINE_string("name", None, "Name of the preset.", required=True)
    flags.DEFINE_string(
        "command", None, "What meta-trained it, from a clone.", required=True
    )
    flags.DEFINE_string("description", None, "One line.", required=True)
    flags.DEFINE_string("limits", None, "What it can't do.", required=True)


def main():
    values = flags.FLAGS
    run_dir = pathlib.Path(values.run_dir)
    card = make_card(run_dir, values.command, values.description, values.limits)
    directory = files.require_empty(
        pathlib.Path(presets.__file__).parent / "weights" / values.name
    )
    shutil.copytree(run_dir / "preset", directory)
    files.write_json(directory / "card.json", card)
    print(f"Written: {directory}")


def make_card(run_dir, command, description, limits):
    """Returns the model card of a finished run, a JSON-able dict.

    Args:
        run_dir: Path of the run, with its `evaluation*.json`.
        command, description, limits: Strings.

    Raises:
        ValueError: if an evaluation is of other meta-parameters than the
            run's preset.
    """
    evaluations = []
    for path in sorted(run_dir.glob("evaluation*.json")):
        evaluation = evaluate.read(path, run_dir / "preset")
        for result in evaluation["results"]:
            # The curves stay with the run: a card is read by people.
            del result["losses"], result["losses_ci95"]
        _shorten(evaluation["task_config"])
        evaluations.append(evaluation)
    return {
        "description": description,
        "limits": limits,
        "command": command,
        "meta_training": [
            _stage(folder)
            for folder in sorted(run_dir.glob("stage_*")) or [run_dir]
        ],
        "evaluations": evaluations,
    }


def _stage(folder):
    """Returns a dict of the configuration and the course of a stage."""
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
    """Removes the Keras model where a task says what it is made from."""
    if "network" in config:
        del config["model"]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
