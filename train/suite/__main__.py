"""Compares optimizers on models and data that nothing is meta-trained on.

Every optimizer trains the same Keras models with `compile` and `fit`. Each run
is a file in --output_dir/runs: the same command goes on where it was stopped,
and a new optimizer is run beside the old ones. Writes --output_dir/suite.json,
networks.json or ablations_of_default.json, of all runs of these optimizers that
are in the folder, and prints its tables. A worker has one core. Needs
pip install keras_l2l[suite]. Examples:

  python -m train.suite --output_dir=runs/suite
  python -m train.suite --output_dir=runs/suite --task=gpt --optimizer=default
  python -m train.suite --output_dir=runs/suite --celo=runs/celo
  python -m train.suite --output_dir=runs/suite --ablations
  python -m train.suite --output_dir=runs/networks --networks --download
"""

import concurrent.futures
import multiprocessing
import pathlib

from absl import flags

from keras_l2l.utils import files
from keras_l2l.utils.versions import versions
from train import benchmark
from train import cli
from train.suite import opponents
from train.suite import report
from train.suite import training
from train.suite.tasks import TASKS
from train.suite.tasks import networks
from train.suite.tasks.base import require_packages

_RUNS_OF_A_PROCESS = 25
_OPTIMIZERS = [*opponents.OPPONENTS, *opponents.CONVERTED]
# The folders of presets that flags give.
_PRESETS = sorted({flag for flag, _ in opponents.CONVERTED.values()})


def define_flags():
    flags.DEFINE_multi_enum(
        "task", [*TASKS], [*TASKS], "Task. Can be repeated. Default: all."
    )
    flags.DEFINE_multi_enum(
        "optimizer",
        _OPTIMIZERS,
        _OPTIMIZERS,
        "Optimizer. Can be repeated. Default: all that need no weights, and "
        "those whose weights are given.",
    )
    flags.DEFINE_bool(
        "networks",
        False,
        "Train the networks that presets are tested on, on data like those of "
        "meta-training, instead of the tasks. Needs Fashion-MNIST.",
    )
    flags.DEFINE_bool(
        "ablations",
        False,
        "Compare the default without one of its parts with the default, "
        "instead of with other optimizers.",
    )
    for name in _PRESETS:
        flags.DEFINE_string(
            name, None, f"Preset folder of {name}, of train.convert_celo."
        )
    define_run_flags(seeds=3)


def define_run_flags(seeds):
    """Defines the flags of `run`, with this number of seeds by default."""
    flags.DEFINE_string(
        "output_dir", None, "Folder of the runs.", required=True
    )
    flags.DEFINE_integer("seeds", seeds, "Runs of each.", lower_bound=1)
    flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
    flags.DEFINE_integer(
        "num_steps",
        None,
        "Steps of each task, a multiple of 20. Default: its own.",
    )
    flags.DEFINE_bool(
        "replace",
        False,
        "Run again what has run with another configuration.",
    )
    cli.define_folder_flags()
    flags.adopt_module_key_flags(cli)


def main():
    values = flags.FLAGS
    name, tasks = "suite", {n: TASKS[n] for n in TASKS if n in values.task}
    if values.networks:
        name = "networks"
        tasks = networks.held_out(values.data_dir, values.download)
    require_packages(tasks.values())
    presets = {
        name: values[name].value
        for name in _PRESETS
        if values[name].value is not None
    }
    table = opponents.table(presets)
    absent = {*_OPTIMIZERS} - {*table}
    if values["optimizer"].present and absent.intersection(values.optimizer):
        raise ValueError(
            "An optimizer with published weights must be given the folder of "
            "its preset. Received: "
            f"{', '.join(sorted(absent.intersection(values.optimizer)))} "
            "without one. Convert the weights with train.convert_celo."
        )
    optimizers = [n for n in table if n in values.optimizer]
    if values.ablations:
        name, optimizers = (
            "ablations_of_default",
            [report.LEARNED, *opponents.ABLATIONS],
        )
    rows = report.summarize(run(tasks, optimizers, presets))
    output = pathlib.Path(values.output_dir, f"{name}.json")
    files.write_json(
        output,
        {
            "benchmark": name,
            "repeats": max(row["seeds"] for row in rows),
            **benchmark.machine(),
            "versions": versions(),
            "rows": rows,
        },
    )
    print(report.format_tables(rows))
    print(f"Written: {output}")


def run(tasks, optimizers, presets):
    """Runs what has not run yet, as the flags say, and returns all runs.

    Args:
        tasks: Dict from names to `SuiteTask`s.
        optimizers: List of names.
        presets: As for `opponents.table`.

    Returns:
        Dict as for `report.summarize`.

    Raises:
        ValueError: if a run in the folder is of another configuration, or no
            task has any of the optimizers.
    """
    values, jobs, different = flags.FLAGS, [], []
    folder = pathlib.Path(values.output_dir)
    if values.num_steps is not None:
        tasks = {
            name: task._replace(num_steps=values.num_steps)
            for name, task in tasks.items()
        }
    configs = {
        (task, name): training.config_of(
            tasks[task], opponents.find(name, presets)
        )
        for task in tasks
        for name in optimizers
    }
    if not any(configs.values()):
        raise ValueError(
            "A task must have one of the optimizers. Received: "
            f"{', '.join(optimizers)} for {', '.join(tasks)}. Choose another "
            "--optimizer or --task."
        )
    # First one seed of all, so that there is something to see.
    for seed in range(values.seeds):
        for (task, name), config in configs.items():
            if config is None:
                continue
            path = folder / "runs" / task / f"{name}_{seed}.json"
            if path.exists():
                if files.read_json(path)["config"] == config:
                    continue
                different.append(path)
            jobs.append((tasks[task], name, presets, seed, path))
    if different and not values.replace:
        raise ValueError(
            "The runs in --output_dir must be of the configurations that their "
            f"tasks and optimizers have now. Received: {len(different)} of "
            f"others, such as {different[0]}. Run them again with --replace, "
            "or choose another folder."
        )
    _run_jobs(jobs, values.workers)
    # Also of seeds that another command has run.
    return {
        (task, name): [
            found
            for path in sorted((folder / "runs" / task).glob(f"{name}_*.json"))
            if (found := files.read_json(path))["config"] == config
        ]
        for (task, name), config in configs.items()
        if config is not None
    }


def _run_jobs(jobs, workers):
    """Runs jobs, arguments of `training.run`, each into its file."""
    if workers == 1:
        for number, job in enumerate(jobs, start=1):
            training.run(*job)
            print(f"{number}/{len(jobs)}: {job[-1]}", flush=True)
        return
    # TensorFlow frees little of what it has compiled: new processes from time
    # to time. With `max_tasks_per_child`, a pool of Python 3.11 can wait for
    # ever (github.com/python/cpython/issues/115634).
    size = _RUNS_OF_A_PROCESS * workers
    context = multiprocessing.get_context("spawn")
    for first in range(0, len(jobs), size):
        with concurrent.futures.ProcessPoolExecutor(
            workers,
            context,
            training.use_one_core,
            (context.Value("i", 0),),
        ) as pool:
            some = jobs[first : first + size]
            running = {pool.submit(training.run, *job): job for job in some}
            try:
                for number, done in enumerate(
                    concurrent.futures.as_completed(running), start=first + 1
                ):
                    failed = "failed: " * (done.exception() is not None)
                    path = running[done][-1]
                    print(f"{number}/{len(jobs)}: {failed}{path}", flush=True)
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


if __name__ == "__main__":
    define_flags()
    cli.run(main)
