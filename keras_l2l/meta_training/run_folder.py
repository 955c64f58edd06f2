"""The folder of a run: its configuration, checkpoints and results."""

import contextlib
import os
import pathlib
import signal
import time
import warnings

from keras_l2l import presets
from keras_l2l.meta_training.checkpoints import CheckpointError
from keras_l2l.meta_training.checkpoints import Checkpoints
from keras_l2l.meta_training.interruption import Interrupted
from keras_l2l.utils import configurations
from keras_l2l.utils import files

try:
    import fcntl
except ImportError:  # On Windows.
    fcntl = None

# How many of the newest skipped meta-steps can be replayed.
_SKIPPED = 20


def open_folder(directory, config, resume):
    """Returns the folder of a run, in which `config.json` describes it.

    Args:
        directory: Path.
        config: JSON-able dict. Its `"versions"` may differ on resuming, with
            a warning.
        resume: Bool, whether a run that the folder holds goes on. There need
            be none.

    Raises:
        FileExistsError: if the folder holds something that does not go on.
        ValueError: if it holds a run of another configuration.
    """
    directory = pathlib.Path(directory)
    path = directory / "config.json"
    if not (resume and path.exists()):
        if resume and directory.is_dir():
            names = [path.name for path in directory.iterdir()]
            # Of a run killed at its very start; else it is not a run's.
            if all(name.startswith(files.UNFINISHED) for name in names):
                files.remove_unfinished(directory)
        if path.exists():
            raise FileExistsError(
                "The output folder must be new or empty. Received: "
                f"{str(directory)!r}, which holds a run. Pass resume=True to "
                "continue it, or choose another folder."
            )
        files.require_empty(directory)
        files.write_json(path, config)
        return directory
    old, new = files.read_json(path), configurations.plain(config)
    changed = configurations.differences(
        old.pop("versions", None), new.pop("versions", None)
    )
    if changed:
        warnings.warn(
            "The results may differ in their last bits from those of an "
            f"uninterrupted run: {'; '.join(changed)}.",
            stacklevel=3,
        )
    configurations.require_same(old, new)
    for folder in (
        directory,
        *filter(pathlib.Path.is_dir, directory.iterdir()),
    ):
        files.remove_unfinished(folder)
    return directory


@contextlib.contextmanager
def alone_in(directory):
    """Context in which no other process runs in a folder, which is made.

    On file systems and operating systems that can't lock it, nothing is done.

    Raises:
        FileExistsError: if another process does.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    # The lock ends with the process, however that ends.
    folder = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise FileExistsError(
            "A run must be alone in its folder. Received: "
            f"{str(directory)!r}, where another process is at work. End that "
            "one first, or choose another folder."
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(folder)


def start_folder(stack, output_dir, config, resume, replicas):
    """Starts or resumes a folder; returns the digest of the configuration.

    All workers raise if their configurations differ.
    """
    digest = configurations.digest(config)

    def start():
        stack.enter_context(alone_in(output_dir))
        open_folder(output_dir, config, resume)
        return digest

    if _of_chief(replicas, start) != digest:
        raise ValueError(
            "All workers must be started with the same rule, task and "
            "arguments. Received: others than the chief's, which are in "
            f"{output_dir / 'config.json'}."
        )
    return digest


def _of_chief(replicas, function):
    """Returns what a function of the chief alone returns, an int > 0 or 0.

    Where it raises, all workers do: they wait to be told, and must not wait
    until they give the chief up.
    """
    number, refused = 0, None
    if replicas.is_chief:
        try:
            number = function()
        except Exception as error:
            number, refused = -1, error
    number = replicas.from_chief(number)
    if refused:
        raise refused
    if number < 0:
        raise ValueError(
            "The chief must be able to use its folder. Received: a chief "
            "that could not; see its message."
        )
    return number


class SavedRun:
    """Saves a run in a folder; of several workers, only the chief writes.

    Args:
        output_dir: `Path` of the folder.
        run: `MetaRun`.
        recorder: `Recorder`.
        digest: Int, of the run's configuration.

    Attributes:
        run, recorder: As given.
    """

    def __init__(self, output_dir, run, recorder, digest):
        self.run = run
        self.recorder = recorder
        self._output_dir = output_dir
        self._digest = digest
        self._checkpoints = Checkpoints(output_dir / "checkpoints")
        self._skipped = Checkpoints(output_dir / "skipped", keep=_SKIPPED)
        self._clock = time.perf_counter()

    def restore(self):
        """Restores the newest good checkpoint; returns its meta-step."""
        found = None

        def latest():
            nonlocal found
            found = self._checkpoints.load_latest()
            if not found and self._is_finished():
                raise CheckpointError(
                    "A finished run must have its checkpoints. Received: "
                    f"{self._output_dir}, with a history.json but without a "
                    "checkpoint. Restore them, or choose another folder."
                )
            return found[1]["meta_step"] if found else 0

        meta_step = _of_chief(self.run.replicas, latest)
        if not meta_step:
            return 0
        arrays, progress = found or self._checkpoints.load(meta_step)
        if progress["configuration"] != self._digest:
            raise CheckpointError(
                "A checkpoint must belong to the run of its folder. Received: "
                f"one of another run in {self._output_dir}. Move it away, or "
                "resume that run in its own folder."
            )
        self.run.restore(arrays, progress["run"])
        self.recorder.history = progress["history"]
        self._clock -= progress["seconds"]
        return meta_step

    def _is_finished(self):
        # One that was stopped early, as gone wrong, has a history.json too.
        path = self._output_dir / "history.json"
        return (
            path.exists()
            and len(files.read_json(path)["meta_loss"])
            == self.recorder.meta_steps
        )

    def save(self, meta_step):
        """Writes a checkpoint of the run before `meta_step`."""
        # Logs first: what a checkpoint knows of must not be missing there.
        self.recorder.finish()
        self._write(self._checkpoints, meta_step)
        self.recorder.start(meta_step)

    def meta_step(self, meta_step, stop):
        """Takes a meta-step; one that is not finite is saved for a replay.

        Args:
            meta_step: Int.
            stop: Whether this worker was asked to stop.

        Returns:
            Bool, whether any worker was, before the meta-step.
        """
        result = self.run.meta_step(meta_step, bool(stop))
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
        return result.stop

    def interrupt(self, meta_step, signal_number):
        """Writes a checkpoint, and raises `Interrupted`.

        Args:
            meta_step: Int, how many were taken.
            signal_number: Int; `None` if another worker received the signal.
        """
        self.save(meta_step)
        raise Interrupted(
            f"Stopped on request after {meta_step} meta-steps; all of them "
            f"are in {self._output_dir}. Resume to continue from there.",
            signal_number or signal.SIGTERM,
        )

    def write_results(self, rule):
        """Writes a preset of the rule, and the history, which it returns.

        There is no preset if all validations have diverged.
        """
        seconds = round(self._seconds(), 1)
        history = {**self.recorder.history, "seconds": seconds}
        if self.run.replicas.is_chief:
            if self.run.best_loss < float("inf"):
                presets.replace_preset(
                    rule,
                    self.run.best,
                    self._output_dir / "preset",
                    self.run.estimators[0].horizon,
                )
            files.write_json(self._output_dir / "history.json", history)
        return history

    def _seconds(self):
        return time.perf_counter() - self._clock

    def _write(self, checkpoints, meta_step):
        arrays, progress = self.run.state()  # With all workers' episodes.
        if self.run.replicas.is_chief:
            checkpoints.save(
                meta_step,
                arrays,
                {
                    "meta_step": meta_step,
                    "configuration": self._digest,
                    "run": progress,
                    "history": self.recorder.history,
                    "seconds": self._seconds(),
                },
            )
