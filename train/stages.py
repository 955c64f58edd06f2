"""The stages of a meta-training, which set flags that are not given."""

import pathlib

from absl import flags

from train import cli
from train import experiments
from train import option_flags


def stages_of(values):
    """Returns a list of dicts: the flags that each stage sets, if not given."""
    if values.experiment is None:
        stages, quick = [{}], experiments.QUICK
    else:
        experiment = experiments.EXPERIMENTS[values.experiment]
        stages = [{**experiment.flags, **s} for s in experiment.stages]
        quick = {**experiments.QUICK, **experiment.quick}
    # What only another stage sets is as without it.
    unset = {n: flags.FLAGS[n].default for stage in stages for n in stage}
    stages = [{**unset, **stage} for stage in stages]
    if not values.quick:
        return stages
    return [_quick(values, {**stage, **quick}) for stage in stages]


def _quick(values, quick):
    """Returns a stage with few meta-steps of short episodes."""
    set_missing(quick)
    quick["unroll_length"] = min(
        values.unroll_length, experiments.QUICK_UNROLL_LENGTH
    )
    set_missing(quick)
    longest = experiments.QUICK_UNROLLS * values.unroll_length
    return {**quick, "horizon": min(values.horizon, longest)}


def stage_in(output_dir, stages):
    """Returns the stage whose folder is given, `.../stage_1` for the first.

    Raises:
        ValueError: if there are several, and it is the folder of none.
    """
    folders = [f"stage_{i}" for i in range(1, len(stages) + 1)]
    name = pathlib.Path(output_dir).name
    if len(stages) > 1 and name not in folders:
        raise ValueError(
            "--output_dir must be the folder of the stage whose meta-step is "
            f"replayed, {' or '.join(folders)}. Received: {output_dir!r}."
        )
    return stages[folders.index(name) if name in folders else 0]


def with_tasks(values, stages, rule):
    """Returns the stages, adapted to a rule and checked in advance.

    Args:
        values: Flags.
        stages: As from `stages_of`.
        rule: `UpdateRule`.

    Returns:
        List of pairs of a stage and its task.

    Raises:
        ValueError: as the estimator does.
    """
    tasks, found = {}, []
    for stage in stages:
        set_missing(stage)
        name = values.task, values.dataset
        if name not in tasks:
            tasks[name] = cli.make_task(values.task)
        found.append((_checked(values, stage, rule, tasks[name]), tasks[name]))
    return found


def _checked(values, stage, rule, task):
    try:
        _try_estimator(values, rule, task)
    except ValueError:
        if not stage.get("sampled_coordinates"):
            raise
        # For speed alone: all coordinates do, where they can't be sampled.
        stage = {**stage, "sampled_coordinates": None}
        set_missing(stage)
        _try_estimator(values, rule, task)
    return stage


def _try_estimator(values, rule, task):
    estimator = option_flags.estimator(values)
    for one in task if isinstance(task, list) else [task]:
        estimator.bind(rule, one, values.horizon)


def set_missing(stage):
    """Sets the flags that are not given to what a stage says."""
    for name, value in stage.items():
        flag = flags.FLAGS[name]
        if not flag.present:
            flag.value = value
