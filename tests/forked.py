"""Scripts as `python` runs them, without the wait for TensorFlow.

It is imported once, in a server that each script's process is forked from.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        *("tensorflow", "keras", "sklearn", "matplotlib", "tensorboard"),
        *("absl.app", "scipy.stats", "tensorflow_datasets", "skimage.data"),
    ]
)


def run(script, *flags, cwd=ROOT):
    """Returns the `subprocess.CompletedProcess` of a script in `train`."""
    return _run(_run_module, f"train.{script}", flags, cwd)


def run_file(path, cwd):
    """Returns the `subprocess.CompletedProcess` of a Python file."""
    return _run(_run_path, str(path), (), cwd)


def _run(target, name, flags, cwd):
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("out", "err")]
        process = context.Process(
            target=_main, args=(target, name, flags, cwd, *files)
        )
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            raise TimeoutError(name, *flags)
        output, errors = (pathlib.Path(file).read_text() for file in files)
    return subprocess.CompletedProcess(flags, process.exitcode, output, errors)


def _run_module(name):
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_path(name):
    runpy.run_path(name, run_name="__main__")


def _main(target, name, flags, cwd, *files):
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    # As users run them: conftest.py has XLA optimize less.
    os.environ.pop("XLA_FLAGS", None)
    os.chdir(cwd)
    sys.path.insert(0, str(ROOT))
    sys.argv = [name, *flags]
    target(name)
