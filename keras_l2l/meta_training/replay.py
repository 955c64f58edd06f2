"""Repeats a meta-step that was skipped, by itself."""

import os
import pathlib
import typing
from collections.abc import Sequence

from keras_l2l.meta_training.checkpoints import Checkpoints
from keras_l2l.meta_training.options import RunOptions
from keras_l2l.meta_training.options import arguments_of
from keras_l2l.meta_training.options import described
from keras_l2l.meta_training.setup import make_run
from keras_l2l.rules import UpdateRule
from keras_l2l.rules import serialize
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.utils import configurations
from keras_l2l.utils import files


def replay(
    rule: UpdateRule,
    task: TaskFamily | Sequence[TaskFamily],
    run_dir: str | os.PathLike[str],
    meta_step: int,
) -> dict[str, typing.Any]:
    """Repeats a skipped meta-step of a run; writes nothing.

    Args:
        rule, task: As in the call of `meta_train` that wrote the run.
        run_dir: Path, its `output_dir`.
        meta_step: Int, one of those in `history["skipped"]`.

    Returns:
        Dict of `meta_loss` and `meta_gradient_norm`, and `losses`: a dict
        from the seed of each episode to the list of the losses of its inner
        steps.

    Raises:
        ValueError: if the rule or the task is another.
        CheckpointError: if this meta-step was not skipped, or what was kept of
            it is damaged.
    """
    run_dir = pathlib.Path(run_dir)
    config = files.read_json(run_dir / "config.json")
    # Any task will do: nothing is validated here.
    arguments = arguments_of(config, validation_task=task)
    configurations.require_same(
        {"rule": config["rule"], "task": config["task"]},
        {"rule": serialize(rule), "task": described(task)},
    )
    del arguments["rule"]
    run = make_run(rule, task, RunOptions(**arguments), validates=False)
    arrays, progress = Checkpoints(run_dir / "skipped").load(meta_step)
    run.restore(arrays, progress["run"])
    losses = run.losses(meta_step)
    result = run.meta_step(meta_step)
    return {
        "meta_loss": result.meta_loss,
        "meta_gradient_norm": result.meta_gradient_norm,
        "losses": losses,
    }
