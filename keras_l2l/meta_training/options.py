"""The options of `meta_train`, in groups."""

import dataclasses
import typing
from collections.abc import Sequence

from keras_l2l import estimators
from keras_l2l.rules import deserialize
from keras_l2l.tasks.base import Task
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.tasks.base import check_task
from keras_l2l.utils import checks
from keras_l2l.utils.descriptions import json_able
from keras_l2l.utils.options import Options
from keras_l2l.utils.options import range_of
from keras_l2l.utils.options import without_none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curriculum(Options):
    """How long episodes are. By default each has `horizon` inner steps.

    Args:
        first_horizon: Int, how long episodes may be at first. The length grows
            to `horizon` in the first half of the run. `None` is `horizon`.
        log_uniform_horizons: Bool, whether the length of each episode is
            drawn, from `unroll_length` to the longest, uniformly in its
            logarithm.
        untold_lengths: Float, the share of episodes in which the rule is not
            told the length. `None` is 0.

    Raises:
        ValueError: if an option is out of its range.
    """

    first_horizon: int | None = None
    log_uniform_horizons: bool = False
    untold_lengths: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.untold_lengths is not None and self.untold_lengths > 1:
            raise ValueError(
                "`untold_lengths` must be a share, at most 1. Received: "
                f"untold_lengths={self.untold_lengths}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation(Options):
    """What chooses the best meta-parameters: episodes on `meta_valid`.

    Args:
        task: `Task` or `TaskFamily`, or a list of them, to validate on; `None`
            is the task of meta-training.
        interval: Int, meta-steps between validations.
        episodes: Int, episodes in each validation, a multiple of the number of
            tasks.

    Raises:
        ValueError: if an option is out of its range.
    """

    task: Task | TaskFamily | list | None = None
    interval: int = 250
    episodes: int = 16

    def __post_init__(self):
        super().__post_init__()
        if self.task is not None:
            listed(self.task)

    def get_config(self):
        task = None if self.task is None else described(self.task)
        return {**super().get_config(), "task": task}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaOptimizer(Options):
    """Adam with a cosine decay to 0, for the meta-parameters.

    Args:
        learning_rate: Float, initial learning rate.
        clipnorm: Float, norm that longer meta-gradients are clipped to; `None`
            for no limit.
        episode_clipnorm: Float, norm that the meta-gradient of each episode is
            clipped to, before their mean is taken, so that none outweighs all
            others. `None` for no limit.

    Raises:
        ValueError: if an option is out of its range.
    """

    learning_rate: float = 0.004
    clipnorm: float | None = 1.0
    episode_clipnorm: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """All options of `meta_train` that change its result, checked.

    Their defaults are those of `meta_train`, which documents them.
    """

    horizon: int
    meta_steps: int
    meta_batch_size: int
    # Episode seeds have 63 bits, see `MetaRun`.
    seed: int = range_of(0, 2**29)
    estimator: estimators.GradientEstimator
    curriculum: Curriculum
    validation: Validation
    meta_optimizer: MetaOptimizer

    def __post_init__(self):
        super().__post_init__()
        first_horizon = self.curriculum.first_horizon
        if first_horizon is not None:
            checks.require_int(
                "first_horizon",
                first_horizon,
                self.estimator.unroll_length,
                self.horizon,
            )

    def get_config(self):
        return {
            **super().get_config(),
            "estimator": estimators.serialize(self.estimator),
            "curriculum": self.curriculum.get_config(),
            "validation": self.validation.get_config(),
            "meta_optimizer": self.meta_optimizer.get_config(),
        }


def arguments_of(
    config: dict[str, typing.Any],
    validation_task: TaskFamily | Sequence[TaskFamily] | None = None,
) -> dict[str, typing.Any]:
    """Returns arguments of `meta_train`, from the `config.json` of a run.

    They are the rule and all options. The run's tasks and the meta-parameters
    that it started from are described there, not contained: pass them again.

    Args:
        config: Dict, the content of `config.json`.
        validation_task: `Task`, `TaskFamily` or list, of a run that was not
            validated on the task of meta-training.

    Raises:
        ValueError: if `config` is of something else than a run, or of one with
            a `validation_task` that is not given.

    Example:

    ```python
    config = json.loads(pathlib.Path("runs/mine/config.json").read_text())
    keras_l2l.meta_train(
        task=task,
        output_dir="runs/again",
        **keras_l2l.meta_training.arguments_of(config),
    )
    ```
    """
    fields = dataclasses.fields(RunOptions)
    missing = {"rule", "task", *(field.name for field in fields)} - {*config}
    if missing:
        raise ValueError(
            "A run's configuration must be the config.json that meta_train "
            f"writes. Received: one without {', '.join(sorted(missing))}."
        )
    described_task = config["validation"]["task"]
    if described_task is not None and validation_task is None:
        raise ValueError(
            "`validation_task` must be that of the run, which its config.json "
            f"only describes. Received: None for {checks.shown(described_task)}"
        )
    validation = {**config["validation"], "task": validation_task}
    config = {**config, "validation": validation}
    found = {"rule": deserialize(config["rule"])}
    for field in fields:
        value, (kind, _) = config[field.name], without_none(field.type)
        if kind is estimators.GradientEstimator:
            value = estimators.deserialize(value)
        elif issubclass(kind, Options):
            value = kind.from_config(value)
        found[field.name] = value
    return found


def listed(task):
    """Returns the list of tasks that an argument of `meta_train` is.

    Raises:
        ValueError: if something else is among them, or there are none.
    """
    found = list(task) if isinstance(task, (list, tuple)) else [task]
    if not found:
        raise ValueError("`task` must be at least one. Received: task=[]")
    for one in found:
        check_task(one)
    return found


def described(task):
    """Returns a task, or a list of them, for JSON."""
    if isinstance(task, (list, tuple)):
        return [described(one) for one in task]
    return json_able(task.describe())
