"""Meta-training: fits a rule's meta-parameters to a task."""

import contextlib
import pathlib
import typing
import warnings

import keras

from keras_l2l import arrays
from keras_l2l import checks
from keras_l2l import estimators
from keras_l2l import runs
from keras_l2l import watch
from keras_l2l.distribution import Replicas
from keras_l2l.episode_lengths import EpisodeLengths
from keras_l2l.interruption import Interruption
from keras_l2l.meta_run import MetaRun
from keras_l2l.recorder import Recorder
from keras_l2l.rules import serialize
from keras_l2l.saved_run import SavedRun
from keras_l2l.saved_run import start_folder
from keras_l2l.tasks import Reparametrized
from keras_l2l.validation import Validation


class MetaTrainingResult(typing.NamedTuple):
    """What `meta_train` returns and, in `output_dir`, writes.

    Attributes:
        meta_params: Nest of tensors, the best on the validation episodes.
        history: Dict of lists, one value per meta-step: `meta_loss`,
            `meta_gradient_norm` (before it is clipped) and `clipped`, 1.0
            where it was; one per validation: `validation`, dicts with
            `meta_step`, `mean_loss`, `final_loss`; and one per meta-step that
            was skipped: `skipped`, dicts with `meta_step`, `seeds`. And of
            `seconds`, how long it took.
    """

    meta_params: typing.Any
    history: dict


# What the configurations of earlier runs are without.
NEWER = {
    "pairs": 4,
    "stddev": 0.01,
    "first_horizon": None,
    "log_uniform_horizons": False,
    "random_scaling": None,
    "reparametrization": None,
}
# Arguments that change where a run takes place, but not what comes out.
_NOT_OF_THE_RUN = (
    "rule",
    "task",
    "validation_task",
    "output_dir",
    "meta_params",
    "resume",
    "strategy",
    "verbose",
)


def meta_train(
    rule,
    task,
    output_dir,
    horizon=100,
    unroll_length=20,
    meta_batch_size=1,
    meta_learning_rate=0.004,
    meta_steps=4000,
    clipnorm=1.0,
    second_derivatives=False,
    loss_weights="sum",
    sampled_coordinates=None,
    teacher=None,
    imitation_weight=1.0,
    estimator="backprop",
    pairs=4,
    stddev=0.01,
    first_horizon=None,
    log_uniform_horizons=False,
    random_scaling=None,
    reparametrization=None,
    validation_task=None,
    validation_interval=250,
    validation_episodes=16,
    seed=0,
    meta_params=None,
    resume=False,
    strategy=None,
    verbose=1,
):
    """Meta-trains a rule: fits its meta-parameters to a task.

    Each meta-step unrolls `meta_batch_size` episodes by `unroll_length` inner
    steps and applies Adam, with a cosine decay to 0, to the mean
    meta-gradient. After `horizon` inner steps the episodes start afresh, with
    new initial parameters and batches. Every `validation_interval` meta-steps
    whole episodes on the split `meta_valid` are run; the meta-parameters with
    the lowest final loss there are the result.

    Writes to `output_dir`: `config.json` (all that reproduces the run),
    `preset/` (for `LearnedOptimizer.from_preset`), `history.json`, `logs/`
    (for TensorBoard) and, at each validation, `checkpoints/`. A run that was
    killed goes on from the last of them with `resume=True`, and ends with the
    same bits. SIGTERM and Ctrl-C end the current meta-step and write a
    checkpoint first.

    A meta-step whose loss or gradient is not finite is skipped with a
    warning, and its episodes are abandoned.

    Args:
        rule: `UpdateRule`.
        task: `Task` or `TaskFamily`, or a list of them, of any structures:
            the episodes of a meta-batch are of each in turn.
        output_dir: Path of a new or empty folder, or of the run to resume.
        horizon: Int, inner steps in an episode; a multiple of
            `unroll_length`.
        unroll_length: Int, inner steps per meta-step.
        meta_batch_size: Int, episodes that run side by side.
        meta_learning_rate: Float, Adam's initial learning rate.
        meta_steps: Int, number of meta-steps.
        clipnorm: Float, largest norm of a meta-gradient; `None` for no limit.
        second_derivatives: Bool, see `keras_l2l.unroll.unroll`.
        loss_weights: How the losses of an episode count, see
            `keras_l2l.estimators.TruncatedBackprop`.
        sampled_coordinates: Int or `None`, see there: faster for a large task.
        teacher: `UpdateRule` whose updates are an example for the rule's, see
            `keras_l2l.estimators.Imitation`, or `None`.
        imitation_weight: Float, see there.
        estimator: `"backprop"`, truncated backpropagation; `"es"` or
            `"persistent_es"`, see `keras_l2l.estimators.EvolutionStrategies`.
        pairs, stddev: Of those.
        first_horizon: Int, how long episodes may be at first: their length
            grows to `horizon` in the first half of the run, a curriculum.
            `None` for `horizon` from the start on.
        log_uniform_horizons: Bool, whether the length of each group of
            episodes is drawn, up to the longest, uniformly in its logarithm.
        random_scaling: Float, the `spread` of a factor for each coordinate of
            the parameters, see `keras_l2l.tasks.Reparametrized`, or `None`.
            Validations are without.
        reparametrization: Float, that of a factor for each tensor, or `None`.
        validation_task: Another `Task` or `TaskFamily`, or a list, to validate
            on; `None` is `task`.
        validation_interval: Int, meta-steps between validations.
        validation_episodes: Int.
        seed: Int >= 0; the whole run is repeatable from it.
        meta_params: Nest of tensors to start from, as those of a preset with
            this rule: to fine-tune it, or to go on with a longer horizon.
            `None` draws fresh ones.
        resume: Bool, whether a run in `output_dir`, if there is one, goes on.
        strategy: `tf.distribute.MirroredStrategy` or
            `MultiWorkerMirroredStrategy`, over whose replicas the meta-batch
            is divided; `None` for one device. Workers read and write the same
            `output_dir`, and can be of another number when a run resumes.
        verbose: 0 for silence, 1 for a progress bar.

    Returns:
        `MetaTrainingResult`.

    Raises:
        FileExistsError: if `output_dir` holds something that is not resumed.
        ValueError: if an argument is out of its range, `unroll_length` does
            not divide `horizon`, `meta_params` are not the rule's, or a run
            would be resumed with another configuration.
        keras_l2l.checkpoints.CheckpointError: if all checkpoints are damaged.
        keras_l2l.interruption.Interrupted: on SIGTERM or Ctrl-C.
        keras_l2l.distribution.WorkerLostError: if another worker process does
            not answer any more.
        keras_l2l.watch.MetaTrainingError: if the run has gone wrong: many
            skipped meta-steps, or validations worse than the first, in a row.
            The best meta-parameters before that are in `preset/`.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.
    """
    arguments = {
        name: value
        for name, value in locals().items()
        if name not in _NOT_OF_THE_RUN
    }
    check_arguments(arguments)
    started_from, validated_on = {}, {}
    if validation_task is not None:
        validated_on = {"validation_task": describe_task(validation_task)}
    if meta_params is not None:
        meta_params, sha256 = arrays.checked(rule, meta_params)
        started_from = {"meta_params_sha256": sha256}
    run = make_run(
        rule, task, arguments, strategy, meta_params, validation_task
    )
    _warn_of_unused(run.estimators)
    config = {
        "rule": serialize(rule),
        "task": describe_task(task),
        **_described(arguments),
        "estimator": type(run.estimators[0]).__name__,
        **validated_on,
        **started_from,
        "versions": runs.versions(),
    }
    output_dir, is_chief = pathlib.Path(output_dir), run.replicas.is_chief
    with contextlib.ExitStack() as stack:
        digest = start_folder(stack, output_dir, config, resume, run.replicas)
        recorder = Recorder(
            output_dir / "logs" if is_chief else None,
            meta_steps,
            unrolls=horizon // unroll_length,
            inner_steps=meta_batch_size * unroll_length,
            clipnorm=clipnorm,
            verbose=verbose if is_chief else 0,
            geometric=isinstance(loss_weights, str) and loss_weights == "log",
        )
        stack.callback(recorder.finish)
        saved = SavedRun(output_dir, run, recorder, digest)
        try:
            _loop(saved, meta_steps, validation_interval)
        except watch.MetaTrainingError:
            saved.write_results(rule)
            raise
        return MetaTrainingResult(run.best, saved.write_results(rule))


def describe_task(task):
    """Returns a task, or a list of them, for JSON."""
    if isinstance(task, (list, tuple)):
        return [one.describe() for one in task]
    return task.describe()


def _warn_of_unused(made):
    """Warns of meta-parameters that no task needs."""
    unused = set.intersection(*(set(e.rule.unused) for e in made))
    if unused:
        names = ", ".join(e.task.name for e in made)
        warnings.warn(
            f"The meta-parameters of {', '.join(sorted(unused))} will stay as "
            f"they are: none of the variables of task {names!r} is theirs.",
            stacklevel=3,
        )


def _described(arguments):
    """Returns arguments of `meta_train` for JSON."""
    described = dict(arguments)
    # Without a teacher, nothing of one: earlier runs can go on. Nor of what
    # else they did not know.
    teacher = described.pop("teacher")
    weight = described.pop("imitation_weight")
    if teacher is not None:
        described["teacher"] = serialize(teacher)
        described["imitation_weight"] = weight
    for name, default in NEWER.items():
        if described[name] == default:
            del described[name]
    return described


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
    for name, multiple in (
        ("meta_batch_size", replicas.number * len(tasks)),
        ("validation_episodes", len(to_validate)),
    ):
        if arguments[name] % multiple:
            raise ValueError(
                f"`{name}` must be a multiple of {multiple}, the number of "
                f"tasks (and of replicas). Received: {name}={arguments[name]}."
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
    )


def _listed(task):
    return task if isinstance(task, (list, tuple)) else [task]


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
    """Raises ValueError if an argument of `meta_train` is out of its range."""
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
    for name in ("clipnorm", "random_scaling", "reparametrization"):
        if arguments[name] is not None:
            checks.require_positive(name, arguments[name])
    for name in ("second_derivatives", "log_uniform_horizons"):
        checks.require_bool(name, arguments[name])
    if arguments["first_horizon"] is not None:
        checks.require_int(
            "first_horizon",
            arguments["first_horizon"],
            arguments["unroll_length"],
            maximum=arguments["horizon"],
        )


def _loop(saved, meta_steps, validation_interval):
    """Runs all meta-steps that are left."""
    run, recorder = saved.run, saved.recorder
    start = saved.restore()
    recorder.start(start)
    with Interruption() as interruption:
        for meta_step in range(start, meta_steps + 1):
            last = meta_step == meta_steps
            if meta_step % validation_interval == 0 or last:
                if meta_step > start:
                    saved.save(meta_step)
                losses = run.validate()
                run.keep_if_best(recorder.validation(meta_step, losses))
            watch.check(recorder.history)
            if not last:
                asked = saved.meta_step(meta_step, interruption.signal_number)
                # Other workers are told by the next meta-step.
                if asked or (run.replicas.alone and interruption.signal_number):
                    saved.interrupt(meta_step + 1, interruption.signal_number)
