"""Makes a run of meta-training out of a rule, tasks and options."""

from keras_l2l.meta_training.meta_step import MetaRun
from keras_l2l.meta_training.options import listed
from keras_l2l.meta_training.replicas import Replicas
from keras_l2l.meta_training.validation import ValidationEpisodes


def make_run(
    rule, task, options, strategy=None, meta_params=None, validates=True
):
    """Returns the `MetaRun` that arguments of `meta_train` describe.

    Args:
        rule, task, strategy, meta_params: As there.
        options: `RunOptions`.
        validates: Bool, whether the run can be validated, and not only take
            meta-steps.

    Raises:
        ValueError: as the estimator and `Replicas` do, and if the meta-batch
            can't be divided over the replicas.
    """
    replicas = Replicas(strategy)
    tasks = listed(task)
    _require_multiple(
        "meta_batch_size",
        options.meta_batch_size,
        replicas.number * len(tasks),
        "the number of replicas times that of tasks",
    )
    return MetaRun(
        options,
        replicas,
        [options.estimator.bind(rule, t, options.horizon) for t in tasks],
        _validation_episodes(rule, tasks, options) if validates else None,
        meta_params,
    )


def _validation_episodes(rule, tasks, options):
    validation = options.validation
    if validation.task is not None:
        tasks = listed(validation.task)
    _require_multiple(
        "episodes",
        validation.episodes,
        len(tasks),
        "the number of tasks to validate on",
    )
    return ValidationEpisodes(
        rule,
        tasks,
        options.horizon,
        validation.episodes,
        options.estimator.compile_unroll,
        options.estimator.held_out,
    )


def _require_multiple(name, value, divisor, what):
    if value % divisor:
        raise ValueError(
            f"`{name}` must be a multiple of {what}, {divisor}. Received: "
            f"{name}={value}. Pass {name}={-(-value // divisor) * divisor}."
        )
