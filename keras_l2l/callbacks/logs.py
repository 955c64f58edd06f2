"""Logs for TensorBoard, on every backend."""

import os
import time


class Logs:
    """Writes scalars; without TensorFlow, which the other backends lack.

    Args:
        log_dir: Path of the folder, or `None` to write nothing.

    Raises:
        ImportError: without the package tensorboard.
        TypeError: if `log_dir` is not a path.
    """

    def __init__(self, log_dir):
        self._log_dir, self._writer = log_dir, None
        if log_dir is not None:
            self._log_dir = os.fspath(log_dir)
            _tensorboard()

    def write(self, name, values, step):
        """Writes the scalars of one variable, or of all.

        Args:
            name: String, or `None` for those of all variables.
            values: Dict from names to floats; `None` is not written.
            step: Int.
        """
        if self._log_dir is None:
            return
        writers, events, summaries = _tensorboard()
        if self._writer is None:
            self._writer = writers.EventFileWriter(self._log_dir)
        found = [
            summaries.Summary.Value(
                tag=key if name is None else f"{key}/{name}", simple_value=value
            )
            for key, value in values.items()
            if value is not None
        ]
        self._writer.add_event(
            events.Event(
                step=step,
                wall_time=time.time(),
                summary=summaries.Summary(value=found),
            )
        )

    def close(self):
        """Ends the file: all that was written is on the disk."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _tensorboard():
    try:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.compat.proto import summary_pb2
        from tensorboard.summary.writer import event_file_writer
    except ModuleNotFoundError as error:
        raise ImportError(
            "With `log_dir`, the package tensorboard must be installed. "
            f"Received: {error}. Run `pip install tensorboard`, or leave "
            "`log_dir` out and read `monitor.history`."
        ) from None
    return event_file_writer, event_pb2, summary_pb2
