"""Meta-training: fits a rule's meta-parameters to a task."""

import contextlib
import pathlib
import typing
import warnings

from keras_l2l.meta_training import setup
from keras_l2l.meta_training import watch
from keras_l2l.meta_training.history import Recorder
from keras_l2l.meta_training.interruption import Interruption
from keras_l2l.meta_training.run_folder import SavedRun
from keras_l2l.meta_training.run_folder import start_folder
from keras_l2l.presets import named_arrays
from keras_l2l.rules import serialize
from keras_l2l.utils.versions import versions


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
    compile_unroll=False,
    episode_clipnorm=None,
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
        second_derivatives: Bool, see `keras_l2l.estimators.unroll.unroll`.
        loss_weights: How the losses of an episode count, see
            `keras_l2l.estimators.TruncatedBackprop`.
        sampled_coordinates: Int or `None`, see there: faster for a large task.
        teacher: `UpdateRule` whose updates are an example for the rule's, see
            `keras_l2l.estimators.Imitation`, or `None`.
        imitation_weight: Float, see there.
        estimator: `"backprop"`, truncated backpropagation; `"es"` or
            `"persistent_es"`, see `keras_l2l.estimators.EvolutionStrategies`.
        pairs, stddev: Of those.
        compile_unroll: Bool, whether XLA compiles the optimizee, too: faster
            for small ones with a cheap rule.
        episode_clipnorm: Float, largest norm of the meta-gradient of a single
            episode, before the mean: so none outweighs all others. `None` for
            no limit.
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
            not divide `horizon`, `meta_params` are not the rule's, a run
            would be resumed with another configuration, or a loss is negative
            and `loss_weights` are "log".
        CheckpointError: if all checkpoints are damaged.
        Interrupted: on SIGTERM or Ctrl-C.
        WorkerLostError: if another worker process does not answer any more.
        MetaTrainingError: if the run has gone wrong: many skipped meta-steps,
            or validations worse than the first, in a row, or no validation
            that is finite. The best meta-parameters before that are in
            `preset/`, if any are validated.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.
    """
    arguments = {
        name: value
        for name, value in locals().items()
        if name not in _NOT_OF_THE_RUN
    }
    setup.check_arguments(arguments)
    started_from, validated_on = {}, {}
    if validation_task is not None:
        validated_on = {"validation_task": setup.describe_task(validation_task)}
    if meta_params is not None:
        meta_params, sha256 = named_arrays.checked(rule, meta_params)
        started_from = {"meta_params_sha256": sha256}
    run = setup.make_run(
        rule, task, arguments, strategy, meta_params, validation_task
    )
    _warn_of_unused(run.estimators)
    config = {
        "rule": serialize(rule),
        "task": setup.describe_task(task),
        **setup.described(arguments),
        "estimator": type(run.estimators[0]).__name__,
        **validated_on,
        **started_from,
        "versions": versions(),
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
            watch.check_result(run.best_loss)
        except watch.MetaTrainingError:
            saved.write_results(rule)
            raise
        return MetaTrainingResult(run.best, saved.write_results(rule))


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
