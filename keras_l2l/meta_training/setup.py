"""Makes a run of meta-training out of the arguments of `meta_train`."""

import keras

from keras_l2l import estimators
from keras_l2l.meta_training.curriculum import EpisodeLengths
from keras_l2l.meta_training.meta_step import MetaRun
from keras_l2l.meta_training.replicas import Replicas
from keras_l2l.meta_training.validation import Validation
from keras_l2l.rules import serialize
from keras_l2l.tasks import Reparametrized
from keras_l2l.tasks.base import check_task
from keras_l2l.utils import checks
from keras_l2l.utils.descriptions import json_able

# What the configurations of earlier runs are without.
NEWER = {
    "pairs": 4,
    "stddev": 0.01,
    "compile_unroll": False,
    "episode_clipnorm": None,
    "first_horizon": None,
    "log_uniform_horizons": False,
    "random_scaling": None,
    "reparametrization": None,
}


def make_run(
    rule, task, arguments, strategy=None, meta_params=None, validation_task=None
):
    """Returns the `MetaRun` that arguments of `meta_train` describe.

    Args:
        rule, task, strategy, meta_params, validation_task: As there.
        arguments: Dict of the others, by name.

    Raises:
        ValueError: as the estimator and `Replicas` do, and if the meta-batch
            can't be divided over the replicas.
    """
    replicas = Replicas(strategy)
    tasks = _listed(task)
    to_validate = tasks if validation_task is None else _listed(validation_task)
    for name, multiple, what in (
        (
            "meta_batch_size",
            replicas.number * len(tasks),
            "a multiple of the number of replicas times that of tasks",
        ),
        (
            "validation_episodes",
            len(to_validate),
            "a multiple of the number of tasks to validate on",
        ),
    ):
        if arguments[name] % multiple:
            raise ValueError(
                f"`{name}` must be {what}, {multiple}. Received: "
                f"{name}={arguments[name]}."
            )
    made = [
        estimators.make_estimator(
            rule,
            _rescaled(task, arguments),
            **{n: arguments[n] for n in estimators.ARGUMENTS},
        )
        for task in tasks
    ]
    return MetaRun(
        replicas,
        made,
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                arguments["meta_learning_rate"], arguments["meta_steps"]
            ),
            global_clipnorm=arguments["clipnorm"],
        ),
        arguments["meta_batch_size"],
        Validation(
            rule,
            to_validate,
            arguments["horizon"],
            arguments["validation_episodes"],
            arguments["compile_unroll"],
        ),
        EpisodeLengths(
            arguments["horizon"],
            arguments["unroll_length"],
            arguments["meta_steps"],
            arguments["first_horizon"],
            arguments["log_uniform_horizons"],
            arguments["seed"],
        ),
        arguments["seed"],
        meta_params,
        arguments["episode_clipnorm"],
    )


def _listed(task):
    found = list(task) if isinstance(task, (list, tuple)) else [task]
    if not found:
        raise ValueError("`task` must be at least one. Received: task=[]")
    for one in found:
        check_task(one)
    return found


def _rescaled(task, arguments):
    """Returns the task as it is meta-trained on."""
    for name, per in (
        ("random_scaling", "coordinate"),
        ("reparametrization", "tensor"),
    ):
        if arguments[name] is not None:
            task = Reparametrized(task, arguments[name], per)
    return task


def check_arguments(arguments):
    """Raises ValueError if an argument of `meta_train` is out of its range.

    Numbers of numpy become plain ones, in place: they are for JSON, too.
    """
    for name, value in arguments.items():
        arguments[name] = checks.plain(value)
    for name in (
        "meta_batch_size",
        "meta_steps",
        "validation_interval",
        "validation_episodes",
    ):
        checks.require_int(name, arguments[name])
    # Episode seeds have 63 bits, see `MetaRun`.
    checks.require_int("seed", arguments["seed"], 0, maximum=2**29)
    checks.require_positive(
        "meta_learning_rate", arguments["meta_learning_rate"]
    )
    checks.require_positive("imitation_weight", arguments["imitation_weight"])
    for name in (
        "clipnorm",
        "episode_clipnorm",
        "random_scaling",
        "reparametrization",
    ):
        if arguments[name] is not None:
            checks.require_positive(name, arguments[name])
    for name in (
        "second_derivatives",
        "log_uniform_horizons",
        "compile_unroll",
    ):
        checks.require_bool(name, arguments[name])
    if arguments["first_horizon"] is not None:
        checks.require_int(
            "first_horizon",
            arguments["first_horizon"],
            arguments["unroll_length"],
            maximum=arguments["horizon"],
        )


def describe_task(task):
    """Returns a task, or a list of them, for JSON."""
    if isinstance(task, (list, tuple)):
        return [describe_task(one) for one in task]
    return json_able(task.describe())


def described(arguments):
    """Returns arguments of `meta_train` for JSON."""
    found = dict(arguments)
    # Without a teacher, nothing of one: earlier runs can go on. Nor of what
    # else they did not know.
    teacher = found.pop("teacher")
    weight = found.pop("imitation_weight")
    if teacher is not None:
        found["teacher"] = serialize(teacher)
        found["imitation_weight"] = weight
    for name, default in NEWER.items():
        if found[name] == default:
            del found[name]
    return found
