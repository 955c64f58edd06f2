"""Meta-training: fits a rule's meta-parameters to a task."""

import shutil
import time
import typing
import warnings

from keras_l2l import checks
from keras_l2l import meta_run
from keras_l2l import presets
from keras_l2l import runs
from keras_l2l import watch
from keras_l2l.checkpoints import Checkpoints
from keras_l2l.interruption import Interrupted
from keras_l2l.interruption import Interruption
from keras_l2l.recorder import Recorder
from keras_l2l.rules import serialize


class MetaTrainingResult(typing.NamedTuple):
    """What `meta_train` returns and, in `output_dir`, writes.

    Attributes:
        meta_params: Nest of tensors, the best on the validation episodes.
        history: Dict of lists, one value per meta-step: `meta_loss` and
            `meta_gradient_norm`; one per validation: `validation`, dicts with
            `meta_step`, `mean_loss`, `final_loss`; and one per meta-step that
            was skipped: `skipped`, dicts with `meta_step`, `seeds`. And of
            `seconds`, how long it took.
    """

    meta_params: typing.Any
    history: dict


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
    validation_interval=250,
    validation_episodes=16,
    seed=0,
    resume=False,
    verbose=1,
):
    """Meta-trains a rule by truncated backpropagation through time.

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
        task: `Task` or `TaskFamily`.
        output_dir: Path of a new or empty folder, or of the run to resume.
        horizon: Int, inner steps in an episode; a multiple of
            `unroll_length`.
        unroll_length: Int, inner steps per meta-step.
        meta_batch_size: Int, episodes that run side by side.
        meta_learning_rate: Float, Adam's initial learning rate.
        meta_steps: Int, number of meta-steps.
        clipnorm: Float, largest norm of a meta-gradient; `None` for no limit.
        second_derivatives: Bool, see `keras_l2l.unroll.unroll`.
        validation_interval: Int, meta-steps between validations.
        validation_episodes: Int.
        seed: Int >= 0; the whole run is repeatable from it.
        resume: Bool, whether a run in `output_dir`, if there is one, goes on.
        verbose: 0 for silence, 1 for a progress bar.

    Returns:
        `MetaTrainingResult`.

    Raises:
        FileExistsError: if `output_dir` holds something that is not resumed.
        ValueError: if an argument is out of its range, `unroll_length` does
            not divide `horizon`, or a run would be resumed with another
            configuration.
        keras_l2l.checkpoints.CheckpointError: if all checkpoints are damaged.
        keras_l2l.interruption.Interrupted: on SIGTERM or Ctrl-C.
        keras_l2l.watch.MetaTrainingError: if the run has gone wrong: many
            skipped meta-steps, or validations worse than the first, in a row.
            The best meta-parameters before that are in `preset/`.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.
    """
    arguments = {
        name: value
        for name, value in locals().items()
        if name not in ("rule", "task", "output_dir", "resume", "verbose")
    }
    check_arguments(arguments)
    run = meta_run.make(rule, task, arguments)
    output_dir = runs.start(
        output_dir,
        {
            "rule": serialize(rule),
            "task": task.describe(),
            "estimator": type(run.estimator).__name__,
            **arguments,
            "versions": runs.versions(),
        },
        resume,
    )
    recorder = Recorder(
        output_dir / "logs",
        meta_steps,
        unrolls=horizon // unroll_length,
        inner_steps=meta_batch_size * unroll_length,
        verbose=verbose,
    )
    saved = _Saved(output_dir, run, recorder)
    try:
        _loop(saved, meta_steps, validation_interval)
    except watch.MetaTrainingError:
        saved.write_results(rule)
        raise
    finally:
        recorder.finish()
    return saved.write_results(rule)


def check_arguments(arguments):
    """Raises ValueError if an argument of `meta_train` is out of its range."""
    for name in (
        "meta_batch_size",
        "meta_steps",
        "validation_interval",
        "validation_episodes",
    ):
        checks.require_int(name, arguments[name])
    checks.require_int("seed", arguments["seed"], minimum=0)
    checks.require_positive(
        "meta_learning_rate", arguments["meta_learning_rate"]
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
                saved.meta_step(meta_step)
                if interruption.signal_number:
                    saved.interrupt(meta_step + 1, interruption.signal_number)


class _Saved:
    """A run, its record, and where both are kept."""

    def __init__(self, output_dir, run, recorder):
        self.run = run
        self.recorder = recorder
        self._output_dir = output_dir
        self._checkpoints = Checkpoints(output_dir / "checkpoints")
        self._skipped = Checkpoints(output_dir / "skipped", keep=None)
        self._clock = time.perf_counter()

    def restore(self):
        """Goes back to the newest good checkpoint; returns its meta-step."""
        found = self._checkpoints.load_latest()
        if found is None:
            return 0
        arrays, progress = found
        self.run.restore(arrays, progress["run"])
        self.recorder.history = progress["history"]
        self._clock -= progress["seconds"]
        return progress["meta_step"]

    def save(self, meta_step):
        """Keeps all that there is before `meta_step`."""
        # Logs first: what a checkpoint knows of must not be missing there.
        self.recorder.finish()
        self._write(self._checkpoints, meta_step)
        self.recorder.start(meta_step)

    def meta_step(self, meta_step):
        """Takes a meta-step; one that is not finite is kept for a replay."""
        result = self.run.meta_step(meta_step)
        self.recorder.meta_step(meta_step, result, self.run.best_loss)
        if not result.finite:
            warnings.warn(
                f"Meta-step {meta_step} was skipped: meta-loss "
                f"{result.meta_loss}, norm of the meta-gradient "
                f"{result.meta_gradient_norm}, episodes {result.seeds}.",
                stacklevel=2,
            )
            self._write(self._skipped, meta_step)
            self.run.abandon_episodes()

    def interrupt(self, meta_step, signal_number):
        """Keeps all that there is, and raises `Interrupted`."""
        self.save(meta_step)
        raise Interrupted(
            f"Stopped on request after {meta_step} meta-steps; all of them "
            f"are in {self._output_dir}. Resume to go on from there.",
            signal_number,
        )

    def write_results(self, rule):
        """Writes and returns the `MetaTrainingResult`."""
        history = {
            **self.recorder.history,
            "seconds": round(self._seconds(), 1),
        }
        preset = self._output_dir / "preset"
        if preset.exists():
            # Of this very run, which was killed after it was written.
            shutil.rmtree(preset)
        presets.save_preset(rule, self.run.best, preset)
        runs.write_json(self._output_dir / "history.json", history)
        return MetaTrainingResult(self.run.best, history)

    def _seconds(self):
        return time.perf_counter() - self._clock

    def _write(self, checkpoints, meta_step):
        arrays, progress = self.run.state()
        checkpoints.save(
            meta_step,
            arrays,
            {
                "meta_step": meta_step,
                "run": progress,
                "history": self.recorder.history,
                "seconds": self._seconds(),
            },
        )
