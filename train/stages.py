"""The stages of a meta-training, each of which sets flags not given."""

import pathlib

from absl import flags

from keras_l2l import estimators
from train import cli
from train import experiments
from train import registry

# Flags that are arguments of `meta_train`; a teacher takes two of them.
_ARGUMENTS = (
    *(name for name in estimators.ARGUMENTS if name != "teacher"),
    "meta_batch_size",
    "meta_learning_rate",
    "meta_steps",
    "clipnorm",
    "episode_clipnorm",
    "first_horizon",
    "log_uniform_horizons",
    "random_scaling",
    "reparametrization",
    "validation_interval",
    "validation_episodes",
    "seed",
)


def stages_of(values):
    """Returns the list of what each stage sets of the flags not given."""
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
    """Returns a stage for trying it, its episodes shortened, too."""
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
    """Returns the stages as a rule can do them, before hours go into one.

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
        _try_estimators(values, rule, task)
    except ValueError:
        if not stage.get("sampled_coordinates"):
            raise
        # For speed alone: all coordinates do, where they can't be sampled.
        stage = {**stage, "sampled_coordinates": 0}
        set_missing(stage)
        _try_estimators(values, rule, task)
    return stage


def _try_estimators(values, rule, task):
    given = arguments(values)
    given = {name: given[name] for name in estimators.ARGUMENTS}
    for one in task if isinstance(task, list) else [task]:
        estimators.make_estimator(rule, one, **given)


def validation_task(values):
    """Returns the task that is validated on, `None` for that of training."""
    if values.validation_task is None:
        return None
    return cli.make_task(values.validation_task)


def arguments(values):
    """Returns the arguments of `meta_train` that flags say."""
    given = {name: values[name].value for name in _ARGUMENTS}
    given["sampled_coordinates"] = values.sampled_coordinates or None
    given["teacher"] = None
    if values.teacher != "none":
        teacher = registry.RULES[values.teacher]
        given["teacher"] = teacher(learning_rate=values.teacher_learning_rate)
    return given


def set_missing(stage):
    """Sets the flags that are not given to what a stage says."""
    for name, value in stage.items():
        flag = flags.FLAGS[name]
        if not flag.present:
            flag.value = value
