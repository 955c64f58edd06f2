"""Measures speed, relative to others in the same run.

Prints a table and writes --output (JSON). Times are medians of --repeats
rounds. Each round runs everything that is compared once, so that other load on
the machine affects all of it. Benchmarks:

  first_step: CPU seconds of the first step of a model, and of that of the next
      model of the same shapes, compared with Adam.
  rules: time of an update of a million parameters by each rule, compared with
      Adam, time of the first two updates, and size of the state.
  frameworks: time of an update of 1,048,576 coordinates, compared with the same
      LSTM in JAX and PyTorch (if installed), and with its matrix products.
  backends: time of an update of three networks, and of the first, compared with
      Adam, on TensorFlow, JAX and PyTorch (if installed).
  overhead: share of the optimizer in a train step, for three kinds of models.
  meta_training: inner steps per second, compared with JAX; seconds of the first
      meta-step, and memory, by horizon and unroll length.

Example:

  python -m train.benchmark --benchmark=rules --output=runs/rules.json
"""

import os
import pathlib
import platform

import tabulate
from absl import flags

from keras_l2l.utils import files
from keras_l2l.utils.versions import versions
from train import cli
from train.benchmarks import backends
from train.benchmarks import first_step
from train.benchmarks import meta_training
from train.benchmarks import overhead
from train.benchmarks import update

# Functions from the number of repeats to the rows of a table.
BENCHMARKS = {
    "first_step": first_step.first_step,
    "rules": update.rules,
    "frameworks": update.frameworks,
    "backends": backends.backends,
    "overhead": overhead.overhead,
    "meta_training": meta_training.meta_training,
}


def format_table(rows):
    """Returns rows as a table of text, with numbers of three digits."""
    return tabulate.tabulate(
        rows,
        headers="keys",
        tablefmt="plain",
        floatfmt=".3g",
        missingval="-",
        numalign="left",
    )


def machine():
    """Returns what machine this is, a dict."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        ),
    }


def _cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [x.split(":")[1].strip() for x in lines if "model name" in x]
    return names[0] if names else platform.machine()


def define_flags():
    flags.DEFINE_enum(
        "benchmark",
        "first_step",
        sorted(BENCHMARKS),
        "Benchmark to run.",
    )
    flags.DEFINE_integer("repeats", 5, "Number of rounds.", lower_bound=1)
    flags.DEFINE_string("output", None, "New JSON file.", required=True)


def main():
    values = flags.FLAGS
    output = files.require_new(values.output)
    rows = BENCHMARKS[values.benchmark](values.repeats)
    content = {
        "benchmark": values.benchmark,
        "repeats": values.repeats,
        **machine(),
        "versions": versions(),
        "rows": rows,
    }
    output = files.write_new(output, files.to_json(content))
    print(format_table(rows))
    print(f"Written: {output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
