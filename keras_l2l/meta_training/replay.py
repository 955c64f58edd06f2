"""A meta-step that was skipped, once more and alone."""

import pathlib

from keras_l2l import estimators
from keras_l2l.meta_training import setup
from keras_l2l.meta_training.checkpoints import Checkpoints
from keras_l2l.rules import deserialize
from keras_l2l.rules import serialize
from keras_l2l.utils import configurations
from keras_l2l.utils import files


def replay(rule, task, run_dir, meta_step):
    """Takes a skipped meta-step of a run again; writes nothing.

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
    if "rule" not in config or "task" not in config:
        raise ValueError(
            "A run must have the config.json that meta_train writes. "
            f"Received: {run_dir / 'config.json'}, which is of something else."
        )
    configurations.require_same(
        {"rule": config["rule"], "task": config["task"]},
        {"rule": serialize(rule), "task": setup.describe_task(task)},
    )
    arguments = {
        "teacher": None,
        "imitation_weight": 1.0,
        **setup.NEWER,
        **config,
        "estimator": estimators.name_of(config["estimator"]),
    }
    if "teacher" in config:
        arguments["teacher"] = deserialize(config["teacher"])
    # Nothing is validated, whatever the run was validated on.
    arguments["validation_episodes"] = 0
    run = setup.make_run(rule, task, arguments)
    arrays, progress = Checkpoints(run_dir / "skipped").load(meta_step)
    run.restore(arrays, progress["run"])
    losses = run.losses(meta_step)
    result = run.meta_step(meta_step)
    return {
        "meta_loss": result.meta_loss,
        "meta_gradient_norm": result.meta_gradient_norm,
        "losses": losses,
    }
