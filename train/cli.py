"""Shared parts of the scripts: flags of tasks, and errors in one message."""

import pathlib
import re
import shlex
import signal
import sys

import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

from keras_l2l.meta_training import tf_errors
from keras_l2l.meta_training.interruption import Interrupted
from keras_l2l.meta_training.replicas import WorkerLostError
from keras_l2l.meta_training.watch import MetaTrainingError
from train import registry

# Errors that are caused by a user, a data set or the machine.
_ERRORS = (
    ValueError,
    OSError,
    MemoryError,
    MetaTrainingError,
    WorkerLostError,
    tf.errors.OpError,
)


def define_task_flags():
    flags.DEFINE_enum(
        "task", "mlp", sorted(registry.TASKS), "Task to optimize."
    )
    define_data_flags()


def define_data_flags():
    flags.DEFINE_string(
        "dataset", "l2l_digits", "TFDS data set of images and labels."
    )
    define_folder_flags()
    flags.DEFINE_string(
        "vgg_weights",
        None,
        "Weights of VGG19 in style transfer: a file, or imagenet, which Keras "
        "downloads. Default: random weights.",
    )


def define_folder_flags():
    flags.DEFINE_string(
        "data_dir", None, "Folder of prepared TFDS data. Default: TFDS' own."
    )
    flags.DEFINE_bool(
        "download", False, "Let TFDS download a data set that is missing."
    )


def make_task(name, dataset=None):
    """Returns a task of the registry, with the data that the flags describe.

    Args:
        name: String, one of `registry.TASKS`.
        dataset: String, used instead of the flag's data set.
    """
    data = {field: flags.FLAGS[field].value for field in registry.Data._fields}
    if dataset is not None:
        data["dataset"] = dataset
    return registry.TASKS[name](registry.Data(**data))


def run(main):
    """Runs `main()`, and reports errors without a traceback.

    `--verbosity=1` shows the traceback.
    """

    def guarded(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Flags start with --. Received: {argv[1]}")
        if logging.get_verbosity() == logging.INFO:
            # At absl's default level, TFDS logs every file that it opens.
            logging.set_verbosity(logging.WARNING)
        try:
            main()
        except Interrupted as interrupted:
            command = shlex.join([*_command(), "--resume"])
            print(f"\n{interrupted}\n  {command}", file=sys.stderr)
            # The exit status that a shell reports after a signal.
            sys.exit(128 + interrupted.signal_number)
        except KeyboardInterrupt:
            # Nothing had to be saved yet.
            sys.exit(128 + signal.SIGINT)
        except _ERRORS as error:
            if logging.level_debug():
                raise
            sys.exit(f"error: {_message(error)}")

    app.run(guarded)


def _message(error):
    text = str(error) or type(error).__name__
    if isinstance(error, tf.errors.OpError):
        text = tf_errors.brief(error)
    # TensorFlow also raises this error if a disk is full.
    exhausted = isinstance(error, tf.errors.ResourceExhaustedError)
    if isinstance(error, MemoryError) or (
        exhausted and re.search("OOM|out of memory", text, re.IGNORECASE)
    ):
        text = (
            f"There must be enough memory. Received: {text} Take a smaller "
            "meta-batch, unroll length or batch; train.meta_train --check "
            "says how much a run takes."
        )
    return text


def _command():
    """Returns the command of this process, a list of strings."""
    spec = sys.modules["__main__"].__spec__
    script = ["python", *(["-m", spec.name] if spec else sys.argv[:1])]
    if pathlib.Path(sys.orig_argv[1]).name == "keras-l2l":
        script = ["keras-l2l", sys.orig_argv[2]]
    flags_given = [flag for flag in sys.argv[1:] if flag != "--resume"]
    return [*script, *flags_given]
