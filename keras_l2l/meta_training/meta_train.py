"""Meta-training: fits a rule's meta-parameters to a task."""

import contextlib
import math
import os
import pathlib
import typing
import warnings
from collections.abc import Sequence

from keras_l2l.estimators import GradientEstimator
from keras_l2l.estimators import TruncatedBackprop
from keras_l2l.meta_training import watch
from keras_l2l.meta_training.history import Recorder
from keras_l2l.meta_training.interruption import Interruption
from keras_l2l.meta_training.options import Curriculum
from keras_l2l.meta_training.options import MetaOptimizer
from keras_l2l.meta_training.options import RunOptions
from keras_l2l.meta_training.options import Validation
from keras_l2l.meta_training.options import described
from keras_l2l.meta_training.run_folder import SavedRun
from keras_l2l.meta_training.run_folder import start_folder
from keras_l2l.meta_training.setup import make_run
from keras_l2l.presets import named_arrays
from keras_l2l.rules import UpdateRule
from keras_l2l.rules import serialize
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.utils.versions import versions


class MetaTrainingResult(typing.NamedTuple):
    """The result of `meta_train`, which it also writes to `output_dir`.

    Attributes:
        meta_params: Nest of tensors, the best on the validation episodes.
        history: Dict of lists, one value per meta-step: `meta_loss`,
            `meta_gradient_norm` (before it is clipped) and `clipped`, 1.0
            where it was; one per validation: `validation`, dicts with
            `meta_step`, `mean_loss`, `final_loss`; and one per meta-step that
            was skipped: `skipped`, dicts with `meta_step`, `seeds`. `seconds`
            is the duration of the run.
    """

    meta_params: typing.Any
    history: dict

    def __repr__(self):
        validations = self.history["validation"]
        best = min(
            validations,
            key=lambda v: v["final_loss"],
            default={"meta_step": None, "final_loss": math.nan},
        )
        return (
            f"MetaTrainingResult(meta_steps={len(self.history['meta_loss'])}, "
            f"validations={len(validations)}, "
            f"best_final_loss={best['final_loss']:.4g}, "
            f"at_meta_step={best['meta_step']})"
        )


def meta_train(
    rule: UpdateRule,
    task: TaskFamily | Sequence[TaskFamily],
    output_dir: str | os.PathLike[str],
    *,
    horizon: int = 100,
    meta_steps: int = 4000,
    meta_batch_size: int = 1,
    seed: int = 0,
    estimator: GradientEstimator = TruncatedBackprop(),
    curriculum: Curriculum = Curriculum(),
    validation: Validation = Validation(),
    meta_optimizer: MetaOptimizer = MetaOptimizer(),
    meta_params: typing.Any = None,
    resume: bool = False,
    strategy: typing.Any = None,
    verbose: int = 1,
) -> MetaTrainingResult:
    """Meta-trains a rule: fits its meta-parameters to a task.

    Each meta-step unrolls `meta_batch_size` episodes by the estimator's
    `unroll_length` inner steps and applies the meta-optimizer to the mean
    meta-gradient. After `horizon` inner steps the episodes start afresh, with
    new initial parameters and batches. Every `validation.interval` meta-steps
    whole episodes on the split `meta_valid` are run. The meta-parameters with
    the lowest final loss there are the result.

    Writes to `output_dir`: `config.json` (all that reproduces the run, see
    `keras_l2l.meta_training.arguments_of`), `preset/` (for
    `LearnedOptimizer.from_preset`), `history.json`, `logs/` (for TensorBoard)
    and, at each validation, `checkpoints/`. A run that was killed continues
    from the last of them with `resume=True`, and ends with the same bits.
    SIGTERM and Ctrl-C end the current meta-step and write a checkpoint first.

    A meta-step whose loss or gradient is not finite is skipped with a
    warning, and its episodes are abandoned.

    Args:
        rule: `UpdateRule`.
        task: `Task` or `TaskFamily`, or a list of them, of any structures:
            the episodes of a meta-batch are of each in turn.
        output_dir: Path of a new or empty folder, or of the run to resume.
        horizon: Int, inner steps in an episode, a multiple of the estimator's
            `unroll_length`.
        meta_steps: Int, number of meta-steps.
        meta_batch_size: Int, episodes that run side by side, a multiple of the
            number of tasks.
        seed: Int >= 0; the whole run is repeatable from it.
        estimator: How meta-gradients are estimated: one of
            `keras_l2l.estimators`, with its `unroll_length`.
        curriculum: `keras_l2l.meta_training.Curriculum`, how long episodes
            are.
        validation: `keras_l2l.meta_training.Validation`.
        meta_optimizer: `keras_l2l.meta_training.MetaOptimizer`.
        meta_params: Nest of tensors to start from, as those of a preset with
            this rule, to fine-tune it or to continue with a longer horizon.
            `None` draws fresh ones.
        resume: Bool, whether a run in `output_dir`, if there is one,
            continues.
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
        WorkerLostError: if another worker process no longer answers.
        MetaTrainingError: if the run has gone wrong: many skipped meta-steps,
            or validations worse than the first, in a row, or no validation
            that is finite. The best meta-parameters before that are in
            `preset/`, if any are validated.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.
    """
    options = RunOptions(
        horizon=horizon,
        meta_steps=meta_steps,
        meta_batch_size=meta_batch_size,
        seed=seed,
        estimator=estimator,
        curriculum=curriculum,
        validation=validation,
        meta_optimizer=meta_optimizer,
    )
    started_from = {}
    if meta_params is not None:
        meta_params, sha256 = named_arrays.checked(rule, meta_params)
        started_from = {"meta_params_sha256": sha256}
    run = make_run(rule, task, options, strategy, meta_params)
    _warn_of_unused(run.estimators)
    config = {
        "rule": serialize(rule),
        "task": described(task),
        **options.get_config(),
        **started_from,
        "versions": versions(),
    }
    output_dir, is_chief = pathlib.Path(output_dir), run.replicas.is_chief
    with contextlib.ExitStack() as stack:
        digest = start_folder(stack, output_dir, config, resume, run.replicas)
        recorder = Recorder(
            output_dir / "logs" if is_chief else None,
            options,
            verbose=verbose if is_chief else 0,
        )
        stack.callback(recorder.finish)
        saved = SavedRun(output_dir, run, recorder, digest)
        try:
            _loop(saved, options.meta_steps, options.validation.interval)
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


def _loop(saved, meta_steps, interval):
    """Runs all meta-steps that are left."""
    run, recorder = saved.run, saved.recorder
    start = saved.restore()
    recorder.start(start)
    with Interruption() as interruption:
        for meta_step in range(start, meta_steps + 1):
            last = meta_step == meta_steps
            if meta_step % interval == 0 or last:
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
